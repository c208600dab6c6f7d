"""The exercises' checks, one file a chapter, named after its subject."""
