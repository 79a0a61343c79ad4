//! Names that are safe on every file system and never special to git.
