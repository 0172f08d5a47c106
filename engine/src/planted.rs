//! Defects that can be planted on purpose, so that the simulator proves that it would find them.
//!
//! A [`Bug`] sits in the shipping code of engine and storage: `if self.planted(Bug::X) { the wrong thing }`. Whether it
//! is there is asked of the store, whose [`Plants`] is [`Sound`] in everything that ships: then the question is a
//! constant, the wrong thing is never compiled, and no feature of another package can bring it back. The simulator
//! opens the engine over stores with [`Planted`], which has the one bug that was chosen for the run.
//!
//! Left out: which seeds catch a bug (`tcat-sim mutants`), and bugs of the models, which would prove nothing.

use std::fmt::Debug;

/// Says which defects are there.
pub trait Plants: Clone + Debug + Default + Send + 'static {
    /// Whether there can be any.
    const POSSIBLE: bool;
    /// Whether this one is there.
    fn has(&self, bug: Bug) -> bool;
}

/// No defects: what ships.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sound;

impl Plants for Sound {
    const POSSIBLE: bool = false;
    fn has(&self, _bug: Bug) -> bool {
        false
    }
}

/// At most one defect, chosen for a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Planted(pub Option<Bug>);

impl Plants for Planted {
    const POSSIBLE: bool = true;
    fn has(&self, bug: Bug) -> bool {
        self.0 == Some(bug)
    }
}

macro_rules! bugs {
    ($($name:ident = $id:literal, $invariant:literal, $state:ident, $what:literal;)*) => {
        /// A defect that can be planted. The text of each is what is wrong with it in place.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Bug {
            $(#[doc = $what] $name,)*
        }

        impl Bug {
            /// All of them, those that wait included, in the order of their ids.
            pub const ALL: &'static [Bug] = &[$(Bug::$name,)*];

            /// Its name on the command line.
            pub fn id(self) -> &'static str {
                match self { $(Bug::$name => $id,)* }
            }

            /// The invariant that must catch it (`S1` to `S13`, `L1` to `L6`).
            pub fn invariant(self) -> &'static str {
                match self { $(Bug::$name => $invariant,)* }
            }

            /// What is wrong, for people.
            pub fn what(self) -> &'static str {
                match self { $(Bug::$name => $what,)* }
            }

            /// Whether there is code to plant it in already.
            pub fn state(self) -> State {
                match self { $(Bug::$name => State::$state,)* }
            }
        }
    };
}

/// Whether a bug can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It sits in the code.
    Planted,
    /// What it breaks is not built yet.
    Waits,
}

bugs! {
    // Those that every engine of this kind has had somewhere.
    NoFence = "01-no-fence", "S1", Planted, "the catalog does not check the claim epoch of a commit";
    EpochInMemory = "02-epoch-in-memory", "S2", Planted, "claim epochs are counted from one again after a crash";
    EpochReused = "03-epoch-reused", "S2", Planted, "a restored client uses its old dots and epochs again";
    ExpiryByWallClock = "04-expiry-by-wall-clock", "S1", Planted, "a holder judges its lease by the wall clock";
    NoDriftMargin = "05-no-drift-margin", "S1", Planted, "others take over at the moment when a lease ends, without a margin";
    LateRenewal = "06-late-renewal", "S1", Planted, "a heartbeat renews a claim that was taken over already";
    OldReleaseFrees = "07-old-release-frees", "S1", Planted, "a late copy of an old entry withdraws a newer claim";
    AckBeforeSync = "08-ack-before-sync", "S3", Planted, "the node database answers before its writes are synced";
    FolderNotSynced = "09-folder-not-synced", "S3", Planted, "a published file is synced, its folder is not";
    TornJournal = "10-torn-journal", "S4", Planted, "a journal that was torn by a crash is taken for a whole one";
    JournalAfterMove = "11-journal-after-move", "S4", Planted, "the journal is synced after the move that it announces";
    TimeoutIsFailure = "12-timeout-is-failure", "S5", Planted, "a commit without an answer is made again under a new revision";
    TimeoutIsSuccess = "13-timeout-is-success", "S6", Planted, "a commit without an answer is taken for made";
    OffsetAfterDedupe = "14-offset-after-dedupe", "S7", Waits, "parts of an upload are numbered after some were left out";
    MissingPart = "15-missing-part", "S7", Waits, "an upload is completed with a part missing";
    SourceNotRechecked = "16-source-not-rechecked", "S7", Planted, "what a file became while it was sent is not compared with what was to be sent";
    BlindReplace = "17-blind-replace", "S8", Planted, "publishing replaces what stands in the place without looking";
    LowVector = "18-low-vector", "S8", Planted, "a client whose database is new begins with a low incarnation";
    RestoredCatalogWins = "19-restored-catalog-wins", "S8", Planted, "a restored catalog's older row is downloaded over a newer file";
    TombstoneTooEarly = "20-tombstone-too-early", "S9", Planted, "a tombstone is forgotten before everybody has it";
    UnmountIsDeletion = "21-unmount-is-deletion", "S10", Planted, "a root that is not there reads as if all its files were deleted";
    RetiredCounted = "22-retired-counted", "L5", Planted, "forgetting waits for clients that were retired";
    DeafThief = "23-deaf-thief", "L1", Planted, "a client that nobody hears counts as live where its messages arrive";
    FieldLostInRelay = "24-field-lost-in-relay", "S13", Planted, "a field that this version does not know is lost when an entry is kept";
    RetiredAccepted = "25-retired-accepted", "S11", Planted, "what a retired client writes is accepted";
    UnboundedRetries = "26-unbounded-retries", "S12", Planted, "each failure on a full disk adds to the queue of retries";
    ClonesUnnoticed = "27-clones-unnoticed", "L3", Planted, "two that run with one key do not notice each other";
    // Those that the protocol's own rules were written against.
    LaggingFeedShared = "28-lagging-feed-shared", "S8", Planted, "on a shared cache the base of the client that lags decides";
    LostAnswerThenSave = "29-lost-answer-then-save", "S8", Planted, "after a commit without an answer the next save drops the line's earlier step";
    CrossedEdits = "30-crossed-edits", "S8", Planted, "a peer's uncommitted edit is taken over another uncommitted edit";
    SaveBeforeRename = "31-save-before-rename", "S8", Planted, "what came out of an exchange goes to trash unseen";
    TwoItemsOnePath = "32-two-items-one-path", "S10", Planted, "a second item is written over the first one's path";
    WipedRevives = "33-wiped-revives", "S9", Planted, "a wiped database imports the removed media that lie in its folder";
    CollectorPauses = "34-collector-pauses", "S7", Planted, "a name is deleted that was not condemned first";
    NoRelay = "35-no-relay", "L1", Planted, "a sign of life is not passed on, so a client in the middle cannot bridge two others";
    HungTask = "36-hung-task", "L1", Planted, "a heartbeat renews claims whose task stands still";
    RetirementRace = "37-retirement-race", "S11", Planted, "a retirement does not say which dot is the last that counts";
    FeedNumberAgain = "38-feed-number-again", "L2", Planted, "a feed position is believed by its number alone";
    TwoHosts = "39-two-hosts", "S6", Planted, "two hosts that were promoted at once both go on";
    PrefixOverLine = "40-prefix-over-line", "S8", Planted, "a prefix of a line replaces the longer line";
    MarkTooEarly = "41-mark-too-early", "L2", Planted, "a mark passes an item that deviates";
    DeletedComesBack = "42-deleted-comes-back", "S9", Planted, "a removal record is forgotten, and an old copy of the picture comes back under its old id";
    OfferedOutOfOrder = "43-offered-out-of-order", "S6", Planted, "lost revisions are offered newest first";
    LeftoverEpoch = "44-leftover-epoch", "L1", Planted, "the epoch that the row keeps from one content's claims does not count for the next content's";
    SwapWaits = "45-swap-waits", "L4", Planted, "two items that swap their names wait for each other for ever";
    NoExchangeReplaces = "46-no-exchange-replaces", "S8", Planted, "on a root without exchange the present file is replaced by a plain rename";
    TrashIsFinal = "47-trash-is-final", "S8", Planted, "what is written into a file that lies in trash is not looked at";
    NoBrake = "48-no-brake", "S8", Planted, "a burst of changes is never too much";
    LowerEpochWins = "49-lower-epoch-wins", "S1", Planted, "of two claims that stand the one with the lower epoch wins";
    AgeByWallClock = "50-age-by-wall-clock", "L3", Planted, "how long a file is quiet is judged by the node's clock, not by that of its disk";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_bug_has_an_id_of_its_own_and_an_invariant_that_must_catch_it() {
        let ids: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.id()).collect();
        assert_eq!(ids.len(), Bug::ALL.len());
        for bug in Bug::ALL {
            let (kind, number) = bug.invariant().split_at(1);
            let number: u32 = number.parse().unwrap();
            assert!(matches!((kind, number), ("S", 1..=13) | ("L", 1..=6)), "{}", bug.id());
            assert!(!bug.what().is_empty());
        }
    }

    #[test]
    fn what_ships_has_none() {
        const { assert!(!Sound::POSSIBLE) };
        assert!(Bug::ALL.iter().all(|bug| !Sound.has(*bug)));
    }
}
