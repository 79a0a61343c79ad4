//! The simulator: everything that a hostile repository, server or key holder can write, and the range it is shot at.
//!
//! A [`Forge`](forge::Forge) writes objects, commits, statements and refs with real keys and no scruples. A
//! [`Range`](range::Range) is one honest fleet with one real agent that runs a service; an attack is served to it, must
//! be refused with its code, and leaves everything as well as it was.

pub mod admission;
pub mod commit;
pub mod forge;
pub mod hostile;
pub mod keys;
pub mod newcomer;
pub mod pack;
pub mod range;
pub mod recovery;
pub mod siege;
pub mod trust;
