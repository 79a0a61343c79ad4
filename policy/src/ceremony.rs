//! What root holders do with trust files: write the next one, read what it changes, sign it, see whose signature is
//! missing. Nothing here needs a root key: `ssh-keygen` signs.

pub mod edit;
pub mod effect;
pub mod facts;
pub mod signing;
