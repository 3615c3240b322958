// From the message of the server to grey values. The message: length of a JSON header (uint32,
// little endian), the header, then the blobs whose lengths the header lists.

function opened(message) {
  const bytes = message instanceof Uint8Array ? message : new Uint8Array(message);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + length)));
  let start = 4 + length;
  const blobs = header.blobs.map((size) => bytes.subarray(start, (start += size)));
  return { header, blobs };
}

// Deflated grey values, row after row, little endian: Uint8Array or Uint16Array.
async function greyValues(blob, bits) {
  const stream = new Blob([blob]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return bits > 8 ? new Uint16Array(buffer) : new Uint8Array(buffer);
}
