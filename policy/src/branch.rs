//! The branches of a state repository, and the names of their refs.

/// One of the four branches of a state repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// What authors want.
    Main,
    /// What policy admitted.
    Admitted,
    /// That the last admission is the newest.
    Fresh,
    /// Who may sign what.
    Trust,
}

impl Branch {
    /// Its short name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Admitted => "admitted",
            Self::Fresh => "fresh",
            Self::Trust => "trust",
        }
    }

    /// Its full name in the repository that is served.
    pub fn full_name(self) -> String {
        format!("refs/heads/{}", self.as_str())
    }

    /// The ref of a mirror that keeps what verified of it, whatever the remote does.
    pub(crate) fn kept_name(self) -> String {
        format!("refs/writ/{}", self.as_str())
    }

    /// What a clone fetches it by.
    pub(crate) fn refspec(self) -> String {
        let name = self.as_str();
        format!("+refs/heads/{name}:refs/remotes/origin/{name}")
    }
}
