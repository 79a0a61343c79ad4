//! Rights that a process gives up before it starts what is not its own.

use std::io;

use rustix::fs::Mode;
use rustix::process::{geteuid, umask};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
    set_no_new_privs,
};

/// Takes from this thread, and from all that it starts from now on, every way to gain rights by running a program. What
/// the thread itself may do it keeps, to become another account.
///
/// # Errors
/// Without `CAP_SETPCAP`.
pub(crate) fn renounce() -> io::Result<()> {
    set_no_new_privs(true)?;
    for capability in CapabilitySet::all().iter() {
        // One that the kernel does not know is in no set.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    let sets = capabilities(None)?;
    let inheritable = CapabilitySet::empty();
    set_capabilities(
        None,
        CapabilitySets {
            inheritable,
            ..sets
        },
    )?;
    Ok(clear_ambient_capability_set()?)
}

/// Keeps of root's rights `kept` alone, for this thread and those that it starts; anybody else has none to give up.
pub(crate) fn keep_only(kept: CapabilitySet) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    set_no_new_privs(true)?;
    let kept = capabilities(None)?.permitted & kept;
    let sets = CapabilitySets {
        effective: kept,
        permitted: kept,
        inheritable: CapabilitySet::empty(),
    };
    Ok(set_capabilities(None, sets)?)
}

/// Keeps for this process alone what it was started with open.
pub(crate) fn keep_descriptors() {
    close_fds::set_fds_cloexec(3, &[]);
}

/// Has nothing that this process starts gain rights, nor let others read what it writes unless it says so.
pub(crate) fn keep_to_itself() -> io::Result<()> {
    umask(Mode::RWXG | Mode::RWXO);
    Ok(set_no_new_privs(true)?)
}
