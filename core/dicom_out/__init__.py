"""Results as DICOM objects for the study they belong to, and as FHIR; the original stays untouched.

Every object goes into the patient and the study of its source, in a new series of this program.
UIDs are derived from those of the source and from the release, so that a reply that is sent twice
after a crash is the same object twice and not two objects.
"""
