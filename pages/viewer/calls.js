// Streamlit may call a component with what one run of the page said after what a later run said. It
// cleans up after such a call at once, while the component is still on the page: then what was there
// before counts again. `one` has update(...args); `end` is for when it has left the page.

function called(one, root, args, end) {
  const before = one.args;
  one.args = args;
  one.update(...args);
  return () => {
    if (!root.isConnected) end?.();
    else if (one.args === args && before) {
      one.args = before;
      one.update(...before);
    }
  };
}
