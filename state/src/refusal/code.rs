//! Every reason for which Writ refuses, holds or fails something: one list of stable codes, each with the
//! remedy that is printed beside it. A code, once released, keeps its name and its meaning.

use std::fmt;

use serde::de::IntoDeserializer as _;
use serde::{Serialize, Serializer};

use crate::durable::Unknown;

macro_rules! codes {
    ($($(#[$group:meta])* $name:ident = $text:literal: $remedy:literal;)*) => {
        /// Why something was refused. Printed in errors, JSON and the journal; the text never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = concat!("`", $text, "`: ", $remedy)] $name,)*
            /// A code of a newer version.
            Unknown(Unknown),
        }

        impl Code {
            /// All codes, in the order in which they are defined.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            /// The stable text of the code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Code::$name => $text,)* Code::Unknown(code) => code.as_str() }
            }

            /// One sentence that says what a person can do about it.
            pub const fn remedy(self) -> &'static str {
                match self {
                    $(Code::$name => $remedy,)*
                    Code::Unknown(_) => "a newer version gave this code: its documentation says what to do",
                }
            }
        }
    };
}

codes! {
    // The host's own memory and clock.
    StateMissing = "STATE_MISSING": "this host has no floor: run `agent enroll`, with the domain told to you by a root holder";
    StateUnsafe = "STATE_UNSAFE": "make the state directory and its files owned by the agent's user and writable by nobody else; a damaged floor needs a new enrolment";
    StateNewer = "STATE_NEWER": "a newer version wrote this: install that version, or a later one; nothing was changed, and what runs runs on";
    ClockBehind = "CLOCK_BEHIND": "set the host's clock (is NTP running?); it is behind a time that was already seen signed";
    AlreadyRunning = "ALREADY_RUNNING": "if the process that is named is an agent, stop it, or ask it through `agent status`; if it is none, end it";
    PermissionDenied = "PERMISSION_DENIED": "run the command as root or as the agent's own account; the group of the agent's socket may only look";
    AlreadyEnrolled = "ALREADY_ENROLLED": "this host is enrolled: choose another --root, or remove the state directory to begin anew";
    SocketPathTooLong = "SOCKET_PATH_TOO_LONG": "choose a shorter --root: the path of a unix socket has at most 100 bytes";

    RecordDamaged = "RECORD_DAMAGED": "what runs was left alone; restore the file from a backup, or let the next deployment write a new one";
    AgentConfigInvalid = "AGENT_CONFIG_INVALID": "correct agent.yaml, or write it anew with `agent enroll`";

    // Fetching.
    FetchFailed = "FETCH_FAILED": "check the remote's URL, credentials and reachability from this host";
    FetchTimeout = "FETCH_TIMEOUT": "the remote was too slow: check the network, or raise the deadline";
    FetchTooBig = "FETCH_TOO_BIG": "the remote sends more than `maxBytes`: find what was committed, or raise `maxBytes` (a new host fetches the whole history)";
    RefMissing = "REF_MISSING": "the repository lacks a branch that it must have: check that it is the state repository and was set up";
    ObjectMissing = "OBJECT_MISSING": "an object that should be there is not: fetch again, and run `git fsck` on the remote";
    ObjectCorrupt = "OBJECT_CORRUPT": "an object's bytes do not match its id: run `git fsck` on the remote and restore it from another clone";
    Sha1Collision = "SHA1_COLLISION": "an object was made to collide in SHA-1: treat the remote as hostile and tell the root holders";
    RepositoryUnusable = "REPOSITORY_UNUSABLE": "check the repository's path, its owner and the space on its disk";
    RepositoryUnsupported = "REPOSITORY_UNSUPPORTED": "use a repository of object format sha1 with the files ref backend, without alternates or replace refs";

    // Trust.
    TrustUnsigned = "TRUST_UNSIGNED": "have the trust file signed by the root threshold of this version and of the one before it";
    TrustVersion = "TRUST_VERSION": "trust versions count up by one, and the file's name is its version";
    TrustFork = "TRUST_FORK": "this trust file does not follow the one that was accepted: tell the root holders";
    TrustInvalid = "TRUST_INVALID": "correct the trust file: `policy trust check FILE` says what is wrong";
    TrustRoleOverlap = "TRUST_ROLE_OVERLAP": "list each key once, in one role, under one name";
    TrustNewer = "TRUST_NEWER": "upgrade this program: the trust file says what it does not know (in one that is not signed yet, correct the field); what runs, runs on";
    TrustRollback = "TRUST_ROLLBACK": "the remote shows an older trust than this host accepted: restore the branch `trust`";
    TrustExpired = "TRUST_EXPIRED": "root holders must publish a new trust version with a later `expires`";

    // The log of admissions.
    LogRollback = "LOG_ROLLBACK": "the remote shows an older log than this host accepted: restore the branch `admitted`";
    LogFork = "LOG_FORK": "two different statements exist for one sequence: a policy key may be stolen; tell the root holders";
    LogWithheld = "LOG_WITHHELD": "the freshness statement knows a newer admission than the remote shows: check for a stale mirror";
    ManifestMalformed = "MANIFEST_MALFORMED": "the manifest is not in the exact form that policy writes: restore the branch `admitted`";
    ManifestNewer = "MANIFEST_NEWER": "upgrade this program: policy signed a manifest of a version that it does not know; what runs, runs on";
    WrongDomain = "WRONG_DOMAIN": "this was made for another fleet: check the remote's URL and `domain` in repository.yaml";
    SequenceGap = "SEQUENCE_GAP": "manifests count up by one: restore the branch `admitted`";
    ChainBroken = "CHAIN_BROKEN": "the manifest does not name its predecessor's hash: restore the branch `admitted`";
    TrustMismatch = "TRUST_MISMATCH": "the manifest names a trust version that is unknown here or older than its predecessor's";
    ManifestUnsigned = "MANIFEST_UNSIGNED": "the manifest lacks a valid signature by a policy key of the trust file";
    KeyEnded = "KEY_ENDED": "the key was ended in the trust file before this was signed: sign again with a key that is in force";
    TimeReversed = "TIME_REVERSED": "the manifest was issued before its predecessor: check the policy server's clock";
    IssuedInFuture = "ISSUED_IN_FUTURE": "the statement is from the future: check the clocks of this host and of the policy server";
    NotDescendant = "NOT_DESCENDANT": "history was rewritten: bring back the commits that were admitted, then build upon them";
    TreeMismatch = "TREE_MISMATCH": "the content is not what was signed: restore the branch from another clone";
    ChangeMismatch = "CHANGE_MISMATCH": "the manifest's change lines are not the difference of the two trees: policy must be repaired";
    OriginMismatch = "ORIGIN_MISMATCH": "a changed release does not come from the commit that the manifest names: policy must be repaired";

    // Freshness.
    FreshnessMalformed = "FRESHNESS_MALFORMED": "the freshness statement is not in the exact form that policy writes: run `policy admit`";
    FreshnessUnsigned = "FRESHNESS_UNSIGNED": "the freshness statement lacks a valid signature by a policy or fresh key: run `policy admit`";
    FreshnessMismatch = "FRESHNESS_MISMATCH": "the freshness statement claims a longer life than the trust file allows: run `policy admit`";
    Stale = "STALE": "no recent proof that this is the newest admission: is `policy run` alive, and the remote reachable?";
    NotStale = "NOT_STALE": "what was admitted is fresh and needs no exception: `agent status` and `agent why SERVICE` say what keeps it from starting";
    NothingVerified = "NOTHING_VERIFIED": "this host has no verified admission at hand: it needs one look at a remote that shows one";

    // Authors.
    SignatureNoncanonical = "SIGNATURE_NONCANONICAL": "sign with stock ssh-keygen or `git commit -S` and an Ed25519 key";
    CommitMalformed = "COMMIT_MALFORMED": "commit with stock git: tree, parents, author, committer, gpgsig, and nothing else";
    AuthorUnsigned = "AUTHOR_UNSIGNED": "sign the commit: `git -c gpg.format=ssh commit -S`";
    AuthorUnknown = "AUTHOR_UNKNOWN": "the signing key is not listed as an author: root holders can add it to the trust file";
    AuthorBadSignature = "AUTHOR_BAD_SIGNATURE": "the signature does not match the commit: amend it and sign again";
    PayloadMismatch = "PAYLOAD_MISMATCH": "the commit is not the one that was admitted: restore the branch `main`";
    ParentUnsigned = "PARENT_UNSIGNED": "an earlier commit on the way is not acceptable: every commit of `main` must be signed by an author";
    PathNotAllowed = "PATH_NOT_ALLOWED": "the signer's scope does not cover this change: ask an author whose scope does";
    RulesNotAllowed = "RULES_NOT_ALLOWED": "changing rules needs an author with `may: [rules]`";
    RefRefused = "REF_REFUSED": "push only fast-forwards of `main`, approvals of what waits, and to `trust` one commit for each new version; policy writes the other branches";

    // Trees and files.
    TreeMalformed = "TREE_MALFORMED": "a tree is not as stock git writes it: commit again with stock git";
    SymlinkRefused = "SYMLINK_REFUSED": "replace the symbolic link by a file";
    SubmoduleRefused = "SUBMODULE_REFUSED": "remove the submodule: a state repository holds files only";
    PathRefused = "PATH_REFUSED": "rename the file: the name is too long, too deep, not plain ASCII or special to git";
    PathCollision = "PATH_COLLISION": "rename one of the two files: they differ only in case";
    TreeTooBig = "TREE_TOO_BIG": "the tree exceeds the trust file's `limits`, or a file 16 MiB: remove files, or have root raise the limits";
    PushTooBig = "PUSH_TOO_BIG": "hosts would not fetch all that the commits bring, with the sides that they merge: make them again without it, or have a part admitted first";
    TrailerMissing = "TRAILER_MISSING": "add the trailer `Tree-SHA256: <hex>` that the environment requires";
    TrailerMismatch = "TRAILER_MISMATCH": "the trailer `Tree-SHA256` names another tree: compute it again and amend";
    ConfigInvalid = "CONFIG_INVALID": "correct the file: `policy check` says where and what was expected";
    ReleaseNewer = "RELEASE_NEWER": "upgrade this program: the release says what it does not know; what the service runs, runs on";
    RulesNewer = "RULES_NEWER": "upgrade this program: the rules say what it does not know, which may forbid anything; what runs, runs on";
    PinInvalid = "PIN_INVALID": "pin the source as a quoted full commit id: `commit: \"<40 hex digits>\"`";
    RenderMismatch = "RENDER_MISMATCH": "the admitted release is not what its commit renders to: policy must be repaired";
    ApprovalMissing = "APPROVAL_MISSING": "have persons who had no part in the change approve it: `policy pending` says who could, `policy approve` does";
    NeedsUnmet = "NEEDS_UNMET": "admit the services that this one needs first";
    HoldMissing = "HOLD_MISSING": "the admitted tree lacks a hold that is in force: policy must be repaired";
    EnvironmentUnknown = "ENVIRONMENT_UNKNOWN": "this host's environment is not admitted: check the agent's `environment`, or admit it";
    HostUnknown = "HOST_UNKNOWN": "list this host in the environment's `hosts`, or set `hosts: any`";
    Held = "HELD": "lift the hold where it was made: in the overlay, by `policy hold --lift`, or on the host by `agent resume` or `agent retry`";

    // Policy.
    PolicyStateBad = "POLICY_STATE_BAD": "the repository's own log does not verify: restore `admitted` from a good clone before admitting";
    LockHeld = "LOCK_HELD": "let the process that is named finish, or end it; what was pushed is admitted by the next push or by `policy admit`";
    PolicyKeyUnlisted = "POLICY_KEY_UNLISTED": "root holders must list this server's policy key in the trust file";
    PolicyKeyMissing = "POLICY_KEY_MISSING": "make a key with `policy keygen` and name it with --key or in REPO/writ/policy.yaml";
    KeyUnusable = "KEY_UNUSABLE": "name an unencrypted OpenSSH Ed25519 private key that only its owner can read: `policy keygen` makes one";
    SelfCheckFailed = "SELF_CHECK_FAILED": "nothing was signed: policy's own result did not verify; please report this";
    SignEquivocation = "SIGN_EQUIVOCATION": "another manifest was signed for this sequence: restore the branch `admitted` that holds it";
    RateLimited = "RATE_LIMITED": "wait until the time shown";
    Cooldown = "COOLDOWN": "wait until the time shown; what policy refused is to be pushed again then, or set `onCooldown: queue`";
    RemovalRefused = "REMOVAL_REFUSED": "write `state: absent`, have that admitted, then remove the files; at most `maxRemovals` at once";
    LostRace = "LOST_RACE": "somebody else pushed first: fetch and try again";
    PushRefused = "PUSH_REFUSED": "on the forge, let policy's account push the branches `admitted` and `fresh`, with force, and nobody else";
    PushFailed = "PUSH_FAILED": "read what the remote answered above, correct it and push again";

    // Deploying on a host.
    SourceUnavailable = "SOURCE_UNAVAILABLE": "check that the source repository is reachable from this host and holds the pinned commit";
    SourceNotOnBranch = "SOURCE_NOT_ON_BRANCH": "pin a commit that is reachable from the service's `source.branch`";
    SourceRefused = "SOURCE_REFUSED": "the source tree holds something that is not checked out (submodule, Git LFS pointer, link that leaves the tree, name that is not UTF-8, too large): change what is named, and pin the new commit";
    SandboxMissing = "SANDBOX_MISSING": "install bubblewrap, or set `sandbox: {kind: none}` and accept unconfined builds";
    BuildFailed = "BUILD_FAILED": "read the build log: `agent logs SERVICE --build`";
    BuildTimeout = "BUILD_TIMEOUT": "make the build faster, or raise `build.timeout`";
    BuildLimit = "BUILD_LIMIT": "make the build or the tests use less, or raise the limit that is named";
    TestFailed = "TEST_FAILED": "read the test log: `agent logs SERVICE --tests`";
    TestTimeout = "TEST_TIMEOUT": "make the tests faster, or raise `test.timeout`";
    OutputMissing = "OUTPUT_MISSING": "`build.output` must name what the build makes, each with its own last component; links inside must end inside";
    DiskFull = "DISK_FULL": "free space in the state directory's file system; what runs was not touched";
    StartFailed = "START_FAILED": "the process could not be started: check `run.command` and the log (`agent logs SERVICE`)";
    StopFailed = "STOP_FAILED": "a process of the slot could not be ended: end it by hand; it is tried again by itself";
    ProcessExited = "PROCESS_EXITED": "the process ended by itself: read its log (`agent logs SERVICE`)";
    IdentityMismatch = "IDENTITY_MISMATCH": "another process answers on the slot's port: the service must listen on PORT or SOCKET itself";
    NotReady = "NOT_READY": "the service did not become ready in time: read the probe's answer and the log";
    Unhealthy = "UNHEALTHY": "the service stopped being healthy: read the probe's answer and the log";
    ListenInUse = "LISTEN_IN_USE": "another process holds the service's listen address: stop it, or choose another";
    ListenRefused = "LISTEN_REFUSED": "the proxy may not listen on this address: does it exist on this host, and may the proxy's user bind it?";
    RoutesInvalid = "ROUTES_INVALID": "the service's routing table file is damaged: remove it, and the agent writes it again";
    GenerationStale = "GENERATION_STALE": "the proxy already serves a later routing table: run one agent only";
    ProxyUnavailable = "PROXY_UNAVAILABLE": "the proxy does not answer on its socket: start it (`agent proxy`), or use `proxy: managed`";
    AccountsExhausted = "ACCOUNTS_EXHAUSTED": "widen `users` in agent.yaml, or remove the data folders of services that are gone, then restart the agent";
    PortsExhausted = "PORTS_EXHAUSTED": "widen `ports` in agent.yaml, or stop what occupies them";
    LimitUnenforceable = "LIMIT_UNENFORCEABLE": "this runner cannot enforce `limits`: use `enforce: bestEffort` or another runner";
    Unsupported = "UNSUPPORTED": "this version of Writ does not do that: remove the field or command, or use a version that does";
    NoTarget = "NO_TARGET": "name a release that is still kept on this host: `agent history SERVICE` lists them";
    UnknownService = "UNKNOWN_SERVICE": "this host runs no such service: `agent status` lists them";
    Interrupted = "INTERRUPTED": "the attempt was cut short and is begun again";
    Superseded = "SUPERSEDED": "a newer release was admitted";
}

impl Code {
    /// Says whether what was met is right but says more than this version knows: an upgrade is the remedy, and nothing is
    /// to be repaired, replaced or passed over.
    pub const fn is_newer(self) -> bool {
        matches!(
            self,
            Self::TrustNewer | Self::ManifestNewer | Self::ReleaseNewer | Self::RulesNewer
        )
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[cfg(feature = "future")]
        return serializer.serialize_str(&crate::durable::future::code(self.as_str()));
        #[cfg(not(feature = "future"))]
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        #[cfg(feature = "future")]
        let text = crate::durable::future::meant(&text);
        let known = Code::ALL.iter().find(|code| code.as_str() == text);
        match known {
            Some(code) => Ok(*code),
            None => Unknown::deserialize(text.into_deserializer()).map(Code::Unknown),
        }
    }
}
