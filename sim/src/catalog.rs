//! A model of the catalog and of the object store: what the real ones promise, in memory.

use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::catalog::{
    CatalogEpoch, CatalogRow, ChainLink, Commit, Committed, Created, FeedChange, FeedPage, FeedPosition,
    NewItem, Refusal, RemovalRecord, RowState,
};
use tcat_engine::content::Content;
use tcat_engine::ids::{ItemId, ObjectId};

/// The catalog's rows, its feed, and the objects.
#[derive(Debug, Default)]
pub struct Catalog {
    rows: BTreeMap<ItemId, CatalogRow>,
    removals: BTreeMap<ItemId, RemovalRecord>,
    feed: Vec<ItemId>,
    objects: BTreeMap<ObjectId, Content>,
    /// How often each content was fetched from the object store.
    pub fetches: BTreeMap<Content, u32>,
}

const EPOCH: CatalogEpoch = CatalogEpoch { number: 1, id: [1; 16] };

impl Catalog {
    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &CatalogRow> {
        self.rows.values()
    }

    /// How many changes there were.
    pub fn changes(&self) -> usize {
        self.feed.len()
    }

    /// Whether a content is or was some item's, removed ones included.
    pub fn knows(&self, content: &Content) -> bool {
        let removed = |record: &RemovalRecord| record.contents.iter().any(|kept| kept.same_as(content));
        self.rows.values().any(|row| row.chain_holds(content)) || self.removals.values().any(removed)
    }

    /// Removes an item for good, as a finished kill does.
    pub fn remove(&mut self, item: &ItemId) {
        let Some(row) = self.rows.remove(item) else { return };
        let contents = row.chain.iter().map(|link| link.content).collect();
        self.removals.insert(*item, RemovalRecord { item: *item, cache_path: row.cache_path, contents });
        self.feed.push(*item);
    }

    /// Whether the row's object is there with the row's content.
    pub fn object_is_sound(&self, row: &CatalogRow) -> bool {
        self.objects.get(&row.object_name()).is_some_and(|content| content.same_as(&row.content))
    }

    /// The changes after a position.
    pub fn read_feed(&self, after: FeedPosition, limit: u32) -> FeedPage {
        let start = usize::try_from(after.number).unwrap_or(usize::MAX).min(self.feed.len());
        let end = start.saturating_add(limit as usize).min(self.feed.len());
        let items: BTreeSet<_> = self.feed[start..end].iter().collect();
        let changes = items
            .into_iter()
            .filter_map(|item| match (self.rows.get(item), self.removals.get(item)) {
                (Some(row), _) => Some(FeedChange::Row(Box::new(row.clone()))),
                (None, record) => record.cloned().map(FeedChange::Removed),
            })
            .collect();
        let id = if end == 0 { [0; 16] } else { [7; 16] };
        let through = FeedPosition { epoch: EPOCH, number: end as u64, id };
        FeedPage { changes, through, more: end < self.feed.len() }
    }

    /// Enters a new item.
    pub fn create(&mut self, new: &NewItem) -> Created {
        if let Some(row) = self.rows.get(&new.item) {
            return Created::Row(Box::new(row.clone()));
        }
        if self.removals.contains_key(&new.item) {
            return Created::Removed;
        }
        let at = |rows: &BTreeMap<ItemId, CatalogRow>, folded| {
            rows.values().find(|row| row.cache_path.folded() == folded).cloned()
        };
        let mut path = new.asked_path.clone();
        if let Some(row) = at(&self.rows, path.folded()) {
            if row.content.same_as(&new.content) {
                return Created::Adopted(Box::new(row));
            }
            let mut n = 1;
            while at(&self.rows, path.folded()).is_some() {
                path = new.asked_path.numbered(n);
                n += 1;
            }
        }
        let row = CatalogRow {
            item: new.item,
            state: RowState::Pending { owner: new.author },
            revision: new.revision,
            content: new.content,
            object: None,
            generation: 0,
            cache_path: path,
            virtual_path: new.asked_path.to_string(),
            content_type: new.content_type.clone(),
            claim_epoch: 0,
            upload: true,
            version_of: new.version_of,
            chain: vec![ChainLink { revision: new.revision, content: new.content }],
        };
        self.rows.insert(new.item, row.clone());
        self.feed.push(new.item);
        Created::Row(Box::new(row))
    }

    /// Commits a content.
    pub fn commit(&mut self, commit: &Commit) -> Committed {
        let Some(row) = self.rows.get_mut(&commit.item) else {
            return Committed::Refused { why: Refusal::Killed, row: None };
        };
        let last = commit.line.last().map_or(commit.base, |link| link.revision);
        if row.chain_has(&last) && row.state == RowState::Active {
            return Committed::Row(Box::new(row.clone()));
        }
        let refuse = |why, row: &CatalogRow| Committed::Refused { why, row: Some(Box::new(row.clone())) };
        if row.revision != commit.base {
            return refuse(Refusal::Revision, row);
        }
        if commit.claim_epoch < row.claim_epoch {
            return refuse(Refusal::ClaimEpoch, row);
        }
        // A line may begin before its base where the base was one of its own steps.
        let known = commit.line.iter().position(|link| link.revision == commit.base);
        row.chain.extend(commit.line.iter().skip(known.map_or(0, |at| at + 1)));
        if let Some(link) = row.chain.last() {
            (row.revision, row.content) = (link.revision, link.content);
        }
        row.object = Some(commit.object);
        row.claim_epoch = commit.claim_epoch;
        row.state = RowState::Active;
        self.feed.push(commit.item);
        Committed::Row(Box::new(row.clone()))
    }

    /// Stores an object; false if the name holds something else.
    pub fn put(&mut self, object: ObjectId, content: Content) -> bool {
        self.objects.entry(object).or_insert(content).same_as(&content)
    }

    /// Fetches an object.
    pub fn get(&mut self, object: ObjectId) -> Option<Content> {
        let content = self.objects.get(&object).copied()?;
        *self.fetches.entry(content).or_default() += 1;
        Some(content)
    }

    /// An item's row.
    pub fn row(&self, item: &ItemId) -> Option<&CatalogRow> {
        self.rows.get(item)
    }

    /// Whether a content is in an object.
    pub fn stores(&self, content: &Content) -> bool {
        self.objects.values().any(|stored| stored.same_as(content))
    }
}
