//! The mirror of the catalog: its rows as the feed brings them, and when to read on.

use super::{Engine, Result, Waiter};
use crate::catalog::{CatalogRow, FeedChange, FeedPage, FeedPlace, FeedPosition, RemovalRecord, RowState};
use crate::catalog_rules;
use crate::codec;
use crate::ids::ItemId;
use crate::planted::Bug;
use crate::ports::{Effect, Event, Outcome};
use crate::store::{Store, Table};
use crate::transaction::Transaction;
use bincode::{Decode, Encode};
use std::cell::RefCell;
use std::sync::Arc;

const META_FEED: &[u8] = b"feed";
const PAGE_CHANGES: u32 = 512;
const RETRY_MS: u64 = 2_000;

/// One item in our mirror of the catalog.
#[derive(Clone, Debug, Encode, Decode)]
pub(super) struct Mirrored {
    /// The catalog's word.
    pub(super) change: FeedChange,
    /// A place of the feed at or after that change which we had read; none before the feed has brought it.
    pub(super) place: Option<FeedPlace>,
    /// When our copy came, if it equals the row and our mark speaks for it instead of an entry.
    pub(super) absorbed_date_ms: Option<u64>,
}

/// How far we have read, and when to read on.
#[derive(Debug, Default)]
pub(super) struct Feed {
    position: FeedPosition,
    due_ms: u64,
    /// When the reading that is under way began.
    reading_since_ms: Option<u64>,
    /// When the last reading began that came to the head; none since this start.
    head_read_ms: Option<u64>,
    away: bool,
    /// Something new was hinted at while a reading was under way.
    hinted: bool,
    /// What the mirror has of the item that was asked for last, as the transaction shows it: while an item is settled it is
    /// asked for many times. Whoever writes a row replaces it.
    last: RefCell<Option<(ItemId, Option<Arc<Mirrored>>)>>,
}

impl Feed {
    pub(super) fn load<S: Store>(tx: &Transaction<S>) -> Result<Self> {
        let position = match tx.get(Table::Meta, META_FEED)? {
            Some(bytes) => codec::decode(&bytes)?,
            None => FeedPosition::default(),
        };
        Ok(Self { position, ..Self::default() })
    }

    pub(super) fn position(&self) -> FeedPosition {
        self.position
    }

    /// Something new is likely there: read at once.
    pub(super) fn hint(&mut self, now_ms: u64) {
        self.due_ms = self.due_ms.min(now_ms);
        self.hinted = self.reading_since_ms.is_some();
    }

    /// Nothing is read before this time.
    pub(super) fn pause_until(&mut self, ms: u64) {
        (self.due_ms, self.hinted) = (ms, false);
    }

    fn due_ms(&self) -> u64 {
        if self.reading_since_ms.is_some() { u64::MAX } else { self.due_ms }
    }

    /// Whether a reading is under way.
    pub(super) fn is_reading(&self) -> bool {
        self.reading_since_ms.is_some()
    }

    /// Whether the feed was read to its head by a reading that began at this time or later.
    pub(super) fn head_read_since(&self, ms: u64) -> bool {
        self.head_read_ms.is_some_and(|read| read >= ms)
    }

    /// Whether the mirror was complete at some time since this start.
    pub(super) fn is_known(&self) -> bool {
        self.head_read_ms.is_some()
    }

    /// Whether the last attempt to read failed.
    pub(super) fn is_away(&self) -> bool {
        self.away
    }
}

impl<S: Store> Engine<S> {
    pub(super) fn feed_due_ms(&self) -> u64 {
        if self.restoring.holds_feed() { u64::MAX } else { self.feed.due_ms() }
    }

    /// Where the next reading begins.
    pub(super) fn move_feed_to(&mut self, position: FeedPosition) -> Result<()> {
        self.feed.position = position;
        self.tx.put(Table::Meta, META_FEED.to_vec(), codec::encode(&position)?);
        self.feed.due_ms = self.now.mono_ms;
        Ok(())
    }

    pub(super) fn read_feed_if_due(&mut self) {
        if self.now.mono_ms < self.feed_due_ms() {
            return;
        }
        self.feed.reading_since_ms = Some(self.now.mono_ms);
        self.effect(Waiter::Feed, Effect::ReadFeed { after: self.feed.position, limit: PAGE_CHANGES });
    }

    pub(super) fn feed_read(&mut self, outcome: Outcome) -> Result<()> {
        let began_ms = self.feed.reading_since_ms.take().unwrap_or(self.now.mono_ms);
        let pause_ms = if std::mem::take(&mut self.feed.hinted) { 0 } else { self.config.poll_ms };
        self.feed.due_ms = self.now.mono_ms + pause_ms;
        match outcome {
            Outcome::Feed(page) => self.apply_feed(*page, began_ms),
            Outcome::FeedRestored { epoch } => self.catalog_restored(epoch),
            Outcome::Failed(why) => {
                if !self.feed.away {
                    self.event(Event::CatalogAway(why));
                }
                self.feed.away = true;
                self.feed.due_ms = self.now.mono_ms + RETRY_MS;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn apply_feed(&mut self, page: FeedPage, began_ms: u64) -> Result<()> {
        if std::mem::take(&mut self.feed.away) {
            self.event(Event::CatalogBack);
            self.queue.wake_waiting();
            self.queue.wake_later();
            self.attempts.unpark_all();
        }
        let begun = place_before(self.feed.position, page.through);
        for change in page.changes {
            if !self.is_before_our_repath(&change, began_ms)? {
                let item = change.item();
                self.apply_news(change, page.through.into())?;
                self.brought(item, begun);
            }
        }
        self.renames.feed_read(began_ms);
        if self.feed.position != page.through {
            self.feed.position = page.through;
            self.tx.put(Table::Meta, META_FEED.to_vec(), codec::encode(&page.through)?);
        }
        if page.more {
            self.feed.due_ms = self.now.mono_ms;
        } else {
            if self.feed.head_read_ms.is_none() {
                self.queue.wake_waiting();
            }
            self.feed.head_read_ms = Some(began_ms);
            self.head_reached(began_ms)?;
        }
        Ok(())
    }

    /// Takes what the feed shows of one item, up to this place.
    fn apply_news(&mut self, change: FeedChange, place: FeedPlace) -> Result<()> {
        let known = self.mirrored(&change.item())?;
        if known.is_some_and(|known| is_older(&change, &known.change))
            && !self.planted(Bug::RestoredCatalogWins)
        {
            self.shown_behind(change);
            return Ok(());
        }
        self.shown_by_feed(&change.item());
        self.apply_change(change, Some(place)).map(drop)
    }

    /// Takes what the catalog answered of one item: the feed must show it too.
    pub(super) fn apply_answer(&mut self, change: FeedChange) -> Result<()> {
        let item = change.item();
        if self.apply_change(change, None)? {
            self.note_answered(item);
        }
        Ok(())
    }

    /// Takes the catalog's word on one item into the mirror, as the feed brought it up to a place, or an answer without;
    /// whether it was news.
    fn apply_change(&mut self, change: FeedChange, place: Option<FeedPlace>) -> Result<bool> {
        let item = change.item();
        let before = self.mirrored(&item)?;
        let older =
            |before: &FeedChange| is_older(&change, before) && !self.planted(Bug::RestoredCatalogWins);
        match before.as_deref() {
            Some(before) if before.change == change => {
                self.place_found(before, place)?;
                return Ok(false);
            }
            Some(before) if older(&before.change) => return Ok(false),
            Some(before) => {
                self.speak_for(item)?;
                self.count_row(Some(&before.change), &change)?;
            }
            None => self.count_row(None, &change)?,
        }
        if let FeedChange::Removed(record) = &change {
            if self.planted(Bug::DeletedComesBack) {
                self.tx.remove(Table::Rows, item.0.to_vec());
                self.feed.last.take();
                self.queue.ready(item);
                return Ok(true);
            }
            self.index_removal(record);
        }
        self.save_mirrored(&item, Mirrored { change: change.clone(), place, absorbed_date_ms: None })?;
        self.speak_of_place(item)?;
        if let FeedChange::Row(row) = &change {
            // A file that is found at the row's path is this item's, unless the path is another's already.
            self.claim_path(&row.item, &row.cache_path)?;
        }
        self.queue.ready(item);
        Ok(true)
    }

    /// Puts another word of the catalog in the place of the one that we knew, whatever order they are in.
    pub(super) fn replace_row(&mut self, row: CatalogRow) -> Result<()> {
        let item = row.item;
        self.speak_for(item)?;
        let change = FeedChange::Row(Box::new(row));
        self.save_mirrored(&item, Mirrored { change, place: None, absorbed_date_ms: None })
    }

    /// The feed brings what we knew: now we know where it stands there.
    fn place_found(&mut self, before: &Mirrored, place: Option<FeedPlace>) -> Result<()> {
        if place.is_none() || before.place == place {
            return Ok(());
        }
        let item = before.change.item();
        self.save_mirrored(&item, Mirrored { place, ..before.clone() })?;
        self.speak_of_place(item)
    }

    /// Takes a row that an effect of ours brought back.
    pub(super) fn apply_row(&mut self, row: CatalogRow) -> Result<()> {
        self.apply_answer(FeedChange::Row(Box::new(row)))
    }

    pub(super) fn mirrored(&self, item: &ItemId) -> Result<Option<Arc<Mirrored>>> {
        if let Some((last, mirrored)) = &*self.feed.last.borrow()
            && last == item
        {
            return Ok(mirrored.clone());
        }
        let mirrored = match self.tx.get(Table::Rows, &item.0)? {
            Some(bytes) => Some(Arc::new(codec::decode(&bytes)?)),
            None => None,
        };
        *self.feed.last.borrow_mut() = Some((*item, mirrored.clone()));
        Ok(mirrored)
    }

    pub(super) fn save_mirrored(&mut self, item: &ItemId, mirrored: Mirrored) -> Result<()> {
        self.tx.put(Table::Rows, item.0.to_vec(), codec::encode(&mirrored)?);
        self.feed.last = RefCell::new(Some((*item, Some(Arc::new(mirrored)))));
        Ok(())
    }

    pub(super) fn change(&self, item: &ItemId) -> Result<Option<FeedChange>> {
        Ok(self.mirrored(item)?.map(|mirrored| mirrored.change.clone()))
    }

    /// The item's row in the mirror.
    pub(super) fn row(&self, item: &ItemId) -> Result<Option<CatalogRow>> {
        Ok(match self.mirrored(item)?.as_deref() {
            Some(Mirrored { change: FeedChange::Row(row), .. }) => Some((**row).clone()),
            _ => None,
        })
    }

    /// The record of the item's removal, if it was removed.
    pub(super) fn removal(&self, item: &ItemId) -> Result<Option<RemovalRecord>> {
        Ok(match self.mirrored(item)?.as_deref() {
            Some(Mirrored { change: FeedChange::Removed(record), .. }) => Some(record.clone()),
            _ => None,
        })
    }
}

/// Where a page began that leads to `through`, as a place of the same epoch: before the first page we have none.
fn place_before(position: FeedPosition, through: FeedPosition) -> FeedPlace {
    let number = if position.epoch == through.epoch { position.number } else { 0 };
    FeedPlace { epoch: through.epoch, number }
}

/// Whether the row's item is to be in every cache: nobody has asked for its removal.
pub(super) fn is_kept(row: &CatalogRow) -> bool {
    matches!(row.state, RowState::Active | RowState::Pending { .. })
}

/// Whether `news` was overtaken: a feed page that was read before a commit of ours may arrive after its answer.
fn is_older(news: &FeedChange, known: &FeedChange) -> bool {
    let (FeedChange::Row(news), FeedChange::Row(known)) = (news, known) else {
        return matches!((news, known), (FeedChange::Row(_), FeedChange::Removed(_)));
    };
    if news.revision == known.revision {
        return catalog_rules::progress(news) < catalog_rules::progress(known);
    }
    known.chain_has(&news.revision) && !news.chain_has(&known.revision)
}
