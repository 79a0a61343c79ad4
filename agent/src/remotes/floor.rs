//! What this host has accepted: its floor, shared by all that verify at the same time. It goes up only, on disk first.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use state::floor::Floor;
use state::{Code, Refusal};

/// Whether what is accepted is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The floor is raised, durably.
    Raise,
    /// Only looked at: the floor on disk stays.
    Look,
}

/// The floor, in memory and on disk.
#[derive(Debug)]
pub struct Accepted {
    floor: Mutex<Floor>,
    path: PathBuf,
    durability: Durability,
}

/// Makes a raised floor durable.
pub type Persist<'a> = &'a mut dyn FnMut(&Floor) -> Result<(), Refusal>;

impl Accepted {
    /// Reads the floor at `path`.
    ///
    /// # Errors
    /// `STATE_MISSING`, `STATE_NEWER`, `STATE_UNSAFE`.
    pub fn load(path: PathBuf, durability: Durability) -> Result<Self, Refusal> {
        let floor = Mutex::new(Floor::load(&path)?);
        Ok(Self {
            floor,
            path,
            durability,
        })
    }

    /// In place of a floor that a newer version wrote: nothing is accepted by it, and nothing written.
    pub fn nothing(floor: Floor, path: PathBuf) -> Self {
        Self {
            floor: Mutex::new(floor),
            path,
            durability: Durability::Look,
        }
    }

    /// The floor as it is now.
    pub fn floor(&self) -> Floor {
        self.lock().clone()
    }

    /// Has `verify` raise a copy of the floor, step by step. If another remote raises the floor meanwhile, nothing of
    /// the copy is kept and `verify` begins again from the new floor: two remotes can never be believed past a fork.
    ///
    /// # Errors
    /// Those of `verify`, and of writing the floor.
    pub fn raise<T>(
        &self,
        mut verify: impl FnMut(&mut Floor, Persist<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        loop {
            let mut floor = self.floor();
            let mut known = floor.clone();
            let mut overtaken = false;
            let mut persist = |raised: &Floor| {
                let mut current = self.lock();
                if *current != known {
                    overtaken = true;
                    let detail = "another remote raised the floor meanwhile";
                    return Err(Refusal::new(Code::LostRace, detail));
                }
                if self.durability == Durability::Raise {
                    raised.save(&self.path)?;
                }
                *current = raised.clone();
                known = raised.clone();
                Ok(())
            };
            let result = verify(&mut floor, &mut persist);
            if !overtaken {
                return result;
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Floor> {
        self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use state::digest::Domain;

    #[test]
    fn a_floor_raised_meanwhile_is_raised_again_from_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("floor.json");
        let (environment, host) = ("prod".parse().unwrap(), "web-1".parse().unwrap());
        let enrolled = Floor::enrolled(Domain([9; 32]), environment, host);
        enrolled.save(&path).unwrap();
        let accepted = Accepted::load(path.clone(), Durability::Raise).unwrap();
        let second = |seconds| jiff::Timestamp::from_second(seconds).unwrap();

        let mut begun = Vec::new();
        let result = accepted.raise(|floor, persist| {
            begun.push(floor.time);
            if begun.len() == 1 {
                // Another remote is quicker.
                accepted.raise(|floor, persist| {
                    floor.advance_time(second(20));
                    persist(floor)
                })?;
            }
            floor.advance_time(second(10));
            persist(floor)
        });
        result.unwrap();
        assert_eq!(begun, [second(0), second(20)]);
        assert_eq!(accepted.floor().time, second(20));
        assert_eq!(Floor::load(&path).unwrap(), accepted.floor());
    }
}
