//! What a code means for what happens next. Whoever has to decide by a refusal asks here, and keeps no list of codes.

use super::code::Code;

/// Whose fault a refusal is, and so what ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What was to be deployed is to blame: it is held until another release is admitted or an operator says otherwise.
    Release,
    /// This host, or what it can reach, is to blame: it waits and is tried again, longer after each time.
    Host,
    /// Nothing here is to blame, or everything: it ends with another statement of the fleet, or of an operator.
    Fleet,
}

impl Code {
    /// Its class.
    pub const fn class(self) -> Class {
        match self {
            Self::StateMissing
            | Self::StateUnsafe
            | Self::StateNewer
            | Self::ClockBehind
            | Self::AlreadyRunning
            | Self::PermissionDenied
            | Self::LockHeld
            | Self::AlreadyEnrolled
            | Self::SocketPathTooLong
            | Self::RecordDamaged
            | Self::AgentConfigInvalid
            | Self::FetchFailed
            | Self::FetchTimeout
            | Self::FetchTooBig
            | Self::ObjectMissing
            | Self::ObjectCorrupt
            | Self::RepositoryUnusable
            | Self::RepositoryUnsupported
            | Self::SourceUnavailable
            | Self::SandboxMissing
            | Self::DiskFull
            | Self::StopFailed
            | Self::ListenInUse
            | Self::ListenRefused
            | Self::RoutesInvalid
            | Self::GenerationStale
            | Self::ProxyUnavailable
            | Self::PortsExhausted
            | Self::AccountsExhausted
            | Self::Interrupted => Class::Host,

            // Of a newer program that this one works with: what it means is not known, so the release is not to blame.
            Self::Unknown(_) => Class::Host,

            Self::SourceNotOnBranch
            | Self::SourceRefused
            | Self::BuildFailed
            | Self::BuildTimeout
            | Self::BuildLimit
            | Self::TestFailed
            | Self::TestTimeout
            | Self::OutputMissing
            | Self::StartFailed
            | Self::ProcessExited
            | Self::IdentityMismatch
            | Self::NotReady
            | Self::Unhealthy
            | Self::LimitUnenforceable
            | Self::Unsupported
            | Self::ConfigInvalid
            | Self::PinInvalid
            | Self::NoTarget
            | Self::UnknownService => Class::Release,

            Self::RefMissing
            | Self::Sha1Collision
            | Self::TrustUnsigned
            | Self::TrustVersion
            | Self::TrustFork
            | Self::TrustInvalid
            | Self::TrustRoleOverlap
            | Self::TrustRollback
            | Self::TrustExpired
            | Self::TrustNewer
            | Self::ManifestNewer
            | Self::ReleaseNewer
            | Self::RulesNewer
            | Self::LogRollback
            | Self::LogFork
            | Self::LogWithheld
            | Self::ManifestMalformed
            | Self::WrongDomain
            | Self::SequenceGap
            | Self::ChainBroken
            | Self::TrustMismatch
            | Self::ManifestUnsigned
            | Self::KeyEnded
            | Self::TimeReversed
            | Self::IssuedInFuture
            | Self::NotDescendant
            | Self::TreeMismatch
            | Self::ChangeMismatch
            | Self::OriginMismatch
            | Self::FreshnessMalformed
            | Self::FreshnessUnsigned
            | Self::FreshnessMismatch
            | Self::Stale
            | Self::NotStale
            | Self::NothingVerified
            | Self::SignatureNoncanonical
            | Self::CommitMalformed
            | Self::AuthorUnsigned
            | Self::AuthorUnknown
            | Self::AuthorBadSignature
            | Self::PayloadMismatch
            | Self::ParentUnsigned
            | Self::PathNotAllowed
            | Self::RulesNotAllowed
            | Self::RefRefused
            | Self::TreeMalformed
            | Self::SymlinkRefused
            | Self::SubmoduleRefused
            | Self::PathRefused
            | Self::PathCollision
            | Self::TreeTooBig
            | Self::TrailerMissing
            | Self::TrailerMismatch
            | Self::RenderMismatch
            | Self::ApprovalMissing
            | Self::NeedsUnmet
            | Self::HoldMissing
            | Self::EnvironmentUnknown
            | Self::HostUnknown
            | Self::Held
            | Self::PolicyStateBad
            | Self::PolicyKeyUnlisted
            | Self::PolicyKeyMissing
            | Self::KeyUnusable
            | Self::SelfCheckFailed
            | Self::SignEquivocation
            | Self::RateLimited
            | Self::Cooldown
            | Self::RemovalRefused
            | Self::LostRace
            | Self::PushRefused
            | Self::PushFailed
            | Self::PushTooBig
            | Self::Superseded => Class::Fleet,
        }
    }

    /// Says whether two signed statements contradict each other: somebody has to be told, whatever else is well.
    pub const fn is_contradiction(self) -> bool {
        matches!(self, Self::LogFork | Self::TrustFork)
    }

    /// Says whether the order of the log is not the one that was expected, which an anchor may allow.
    pub const fn breaks_sequence(self) -> bool {
        matches!(self, Self::SequenceGap | Self::ChainBroken)
    }

    /// Says whether somebody decided that a release may not start.
    pub const fn is_hold(self) -> bool {
        matches!(self, Self::Held | Self::HoldMissing)
    }

    /// Says whether a limit of time is the reason, which ends by itself.
    pub const fn is_rate(self) -> bool {
        matches!(self, Self::RateLimited | Self::Cooldown)
    }

    /// Says whether a fetch was cut short on this side, which says nothing against the remote.
    pub const fn is_cut_short(self) -> bool {
        matches!(self, Self::FetchTimeout | Self::DiskFull)
    }

    /// Says whether an address cannot be listened on.
    pub const fn is_listen(self) -> bool {
        matches!(self, Self::ListenInUse | Self::ListenRefused)
    }

    /// Says whether a copy of a repository does not hold what it should: a copy is thrown away and fetched anew.
    pub const fn is_damaged_copy(self) -> bool {
        matches!(
            self,
            Self::RepositoryUnusable | Self::ObjectMissing | Self::ObjectCorrupt
        )
    }

    /// Says whether a fetch ended as it also does when not the remote but the copy that it writes to is damaged.
    pub const fn may_be_damaged_copy(self) -> bool {
        self.is_damaged_copy() || matches!(self, Self::FetchFailed | Self::RepositoryUnsupported)
    }

    /// Says whether a fetch of several branches may have failed for one of them alone.
    pub const fn may_be_one_branch(self) -> bool {
        matches!(self, Self::FetchFailed | Self::FetchTooBig)
    }

    /// Says whether a copy shows less than what was accepted.
    pub const fn is_behind(self) -> bool {
        matches!(self, Self::LogRollback | Self::RefMissing)
    }
}
