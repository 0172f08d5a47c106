//! A model of the catalog and of the object store, in memory: the shipping rules over facts in maps.
//!
//! What is decided, [`tcat_engine::catalog_rules`] decides, as in every real catalog; the model only keeps, so a bug
//! planted in the rules is a bug of this catalog too. Beside that it remembers what no restore takes away, to say when
//! something happened that must not: [`Catalog::violations`].

use std::collections::{BTreeMap, BTreeSet};
use tcat_engine::catalog::{
    CHAIN_LINKS_MAX, CatalogEpoch, CatalogRow, ChainLink, Commit, Committed, Created, FeedChange, FeedPage,
    FeedPosition, NewItem, Refusal, RemovalRecord, Repath, Repathed, Revision, RowState,
};
use tcat_engine::catalog_orders::{Kill, Killing, NewEpoch, Offer, Offered, Unsound};
use tcat_engine::catalog_rules::{
    self as rules, CommitFacts, CommitVerdict, CreateFacts, CreateVerdict, IntendVerdict, KillVerdict, Name,
    OfferFacts, OfferVerdict, Standing,
};
use tcat_engine::clock::Stamp;
use tcat_engine::content::Content;
use tcat_engine::ids::{ClientId, ItemId, ObjectId};
use tcat_engine::paths::{FoldedPath, MediaPath};
use tcat_engine::planted::Planted;
use tcat_engine::ports::Object;
use tcat_engine::roster::{self, RosterMember, Visit};

/// The catalog's rows, its feed, and the objects.
#[derive(Debug, Default)]
pub struct Catalog {
    plants: Planted,
    now: Life,
    backup: Option<Life>,
    /// Counts feed rows over all lives: their ids are never used again.
    feed_rows: u64,
    /// Which of several catalogs this is: their feed rows have different ids.
    number: u8,
    objects: BTreeMap<ObjectId, Content>,
    past: Past,
    roster: Vec<RosterMember>,
    /// Every revision that was ever asked for, and its content: two contents under one are a dot that was used twice.
    revisions: BTreeMap<Revision, Content>,
    /// Dots that were used twice.
    pub reused: Vec<Revision>,
    /// How often an object was brought to the object store.
    pub puts: u32,
    /// How often each content was fetched from the object store.
    pub fetches: BTreeMap<Content, u32>,
    /// How often each content was brought to the object store.
    pub puts_of: BTreeMap<Content, u32>,
}

/// What a backup keeps and a restore brings back.
#[derive(Clone, Debug)]
struct Life {
    epoch: CatalogEpoch,
    rows: BTreeMap<ItemId, CatalogRow>,
    chains: BTreeMap<ItemId, Vec<ChainLink>>,
    removals: BTreeMap<ItemId, RemovalRecord>,
    feed: Vec<([u8; 16], ItemId)>,
    names: BTreeMap<ObjectId, Named>,
    /// The highest claim epoch that was ever accepted for an item.
    fences: BTreeMap<ItemId, u64>,
}

impl Default for Life {
    fn default() -> Self {
        Self {
            epoch: CatalogEpoch { number: 1, id: [1; 16] },
            rows: BTreeMap::new(),
            chains: BTreeMap::new(),
            removals: BTreeMap::new(),
            feed: Vec::new(),
            names: BTreeMap::new(),
            fences: BTreeMap::new(),
        }
    }
}

/// What an object's name stands for.
#[derive(Clone, Copy, Debug)]
struct Named {
    item: ItemId,
    content: Content,
    generation: u32,
    state: Name,
}

/// What really happened, over all lives.
#[derive(Debug, Default)]
struct Past {
    /// What each committed step followed.
    parents: BTreeMap<Revision, (ItemId, ChainLink, Option<Revision>)>,
    /// Under which revision a content of an item was first to be committed, by each of those who may name one save.
    asked: BTreeMap<(ItemId, Content, Option<ClientId>), Revision>,
    removed: BTreeSet<ItemId>,
    condemned: BTreeSet<ObjectId>,
    violations: Vec<String>,
}

impl Catalog {
    /// An empty catalog with a planted defect, if any.
    pub fn planted(plants: Planted) -> Self {
        Self { plants, ..Self::default() }
    }

    /// It begins at this epoch and with this roster, and is the `number`-th of its world.
    pub fn begin_at(&mut self, epoch: CatalogEpoch, roster: Vec<RosterMember>, number: u8) {
        (self.now.epoch, self.roster, self.number) = (epoch, roster, number);
    }

    /// Enters a client in the roster.
    pub fn admit(&mut self, client: ClientId) {
        let standing = roster::Standing::Current;
        self.roster.push(RosterMember { client, stamp: Stamp::default(), standing, seen_ms: 0 });
    }

    /// Enters a client in the roster that has been away for long.
    pub fn admit_absent(&mut self, client: ClientId) {
        let standing = roster::Standing::Absent;
        self.roster.push(RosterMember { client, stamp: Stamp::default(), standing, seen_ms: 0 });
    }

    /// A member visits the roster.
    pub fn visit_roster(&mut self, visit: &Visit, now_ms: u64) -> Vec<RosterMember> {
        roster::visit(&mut self.roster, visit, now_ms);
        self.roster.clone()
    }

    /// Retires a client; what it wrote after `last` does not count.
    pub fn retire(&mut self, client: &ClientId, last: Stamp) {
        roster::retire(&mut self.roster, client, last);
    }

    /// The roster.
    pub fn roster(&self) -> &[RosterMember] {
        &self.roster
    }

    /// Whether a client may change anything; everybody, where nobody was entered.
    pub fn is_member(&self, client: &ClientId) -> bool {
        let counts = |member: &&RosterMember| !matches!(member.standing, roster::Standing::Retired { .. });
        self.roster.is_empty() || self.roster.iter().filter(counts).any(|member| member.client == *client)
    }

    fn note(&mut self, link: &ChainLink) {
        let noted = *self.revisions.entry(link.revision).or_insert(link.content);
        if !noted.same_as(&link.content) {
            self.reused.push(link.revision);
        }
        let dot = link.revision.0;
        if let Some(member) = self.roster.iter_mut().find(|member| member.client == dot.client) {
            member.stamp = member.stamp.max(dot.stamp);
        }
    }

    /// All rows.
    pub fn rows(&self) -> impl Iterator<Item = &CatalogRow> {
        self.now.rows.values()
    }

    /// All removal records.
    pub fn removals(&self) -> impl Iterator<Item = &RemovalRecord> {
        self.now.removals.values()
    }

    /// Which life this is.
    pub fn epoch(&self) -> CatalogEpoch {
        self.now.epoch
    }

    /// How many changes there were.
    pub fn changes(&self) -> usize {
        self.now.feed.len()
    }

    /// Keeps a copy of everything but the objects.
    pub fn back_up(&mut self) {
        self.backup = Some(self.now.clone());
    }

    /// Brings the copy back, if there is one: what came since is lost.
    pub fn restore(&mut self) {
        if let Some(backup) = self.backup.clone() {
            self.now = backup;
        }
    }

    /// Whether a content is or was some item's, removed ones included.
    pub fn knows(&self, content: &Content) -> bool {
        let removed = |record: &RemovalRecord| record.contents.iter().any(|kept| kept.same_as(content));
        let chained = |chain: &Vec<ChainLink>| chain.iter().any(|link| link.content.same_as(content));
        self.now.chains.values().any(chained) || self.now.removals.values().any(removed)
    }

    /// What happened that must not, each with the invariant that forbids it; and what must not be so at rest.
    pub fn violations(&self) -> Vec<String> {
        let lost = self.past.parents.values().filter(|(_, link, _)| !self.knows(&link.content));
        let lost = lost.map(|(item, link, _)| format!("S8: {item:?} has lost the committed {link:?}"));
        let back = self.now.rows.keys().filter(|item| self.past.removed.contains(item));
        let back = back.map(|item| format!("S9: {item:?} was removed and is back"));
        self.past.violations.iter().cloned().chain(lost).chain(back).collect()
    }

    /// What happened that must not, whatever comes of it.
    pub fn happened(&self) -> &[String] {
        &self.past.violations
    }

    /// Removes an item for good, as a finished kill does.
    pub fn remove(&mut self, item: &ItemId) {
        let Some(row) = self.now.rows.get(item).cloned() else { return };
        let record = rules::removal_record(&row, self.now.chains.get(item).map_or(&[], Vec::as_slice));
        self.put_removal(record);
    }

    /// Enters a row as it is, its object included.
    pub fn enter(&mut self, row: CatalogRow) {
        self.objects.insert(row.object_name(), row.content);
        self.now.chains.insert(row.item, row.chain.clone());
        self.put_row(row);
    }

    /// Raises the claim epoch that a row keeps, as a commit after takeovers elsewhere does.
    pub fn raise_claim_epoch(&mut self, item: &ItemId, epoch: u64) {
        if let Some(mut row) = self.now.rows.get(item).cloned() {
            row.claim_epoch = row.claim_epoch.max(epoch);
            self.put_row(row);
        }
    }

    /// Whether the row's object is there with the row's content.
    pub fn object_is_sound(&self, row: &CatalogRow) -> bool {
        self.objects.get(&row.object_name()).is_some_and(|content| content.same_as(&row.content))
    }

    /// The object of a row is lost, or holds other bytes.
    pub fn harm_object(&mut self, object: ObjectId, instead: Option<Content>) {
        match instead {
            Some(content) => _ = self.objects.insert(object, content),
            None => _ = self.objects.remove(&object),
        }
    }

    /// All objects in the store.
    pub fn objects(&self) -> &BTreeMap<ObjectId, Content> {
        &self.objects
    }

    /// The changes after a position; the catalog's epoch, if it never gave that position.
    pub fn read_feed(&self, after: FeedPosition, limit: u32) -> Result<FeedPage, CatalogEpoch> {
        let life = &self.now;
        let start = usize::try_from(after.number).unwrap_or(usize::MAX);
        let found = start.checked_sub(1).and_then(|at| life.feed.get(at)).map(|(id, _)| *id);
        if !rules::gave_position(&self.plants, &after, life.epoch, found) {
            return Err(life.epoch);
        }
        let start = start.min(life.feed.len());
        let end = start.saturating_add(limit as usize).min(life.feed.len());
        let items: BTreeSet<_> = life.feed[start..end].iter().map(|(_, item)| *item).collect();
        let changes = items.into_iter().filter_map(|item| self.change(&item)).collect();
        let id = end.checked_sub(1).and_then(|at| life.feed.get(at)).map_or([0; 16], |(id, _)| *id);
        let through = FeedPosition { epoch: life.epoch, number: end as u64, id };
        Ok(FeedPage { changes, through, more: end < life.feed.len() })
    }

    fn change(&self, item: &ItemId) -> Option<FeedChange> {
        match self.now.rows.get(item) {
            Some(row) => Some(FeedChange::Row(Box::new(row.clone()))),
            None => self.now.removals.get(item).cloned().map(FeedChange::Removed),
        }
    }

    fn standing(&self, author: &ClientId) -> Standing {
        Standing { epoch: self.now.epoch, member: self.is_member(author) }
    }

    fn announce(&mut self, item: ItemId) {
        self.feed_rows += 1;
        let mut id = [7 + self.number; 16];
        id[..8].copy_from_slice(&self.feed_rows.to_be_bytes());
        self.now.feed.push((id, item));
    }

    /// Writes a row with its chain's newest links, and announces it.
    fn put_row(&mut self, mut row: CatalogRow) -> CatalogRow {
        let chain = self.now.chains.get(&row.item).map_or(&[][..], Vec::as_slice);
        row.chain = chain[chain.len().saturating_sub(CHAIN_LINKS_MAX)..].to_vec();
        self.now.rows.insert(row.item, row.clone());
        self.announce(row.item);
        row
    }

    fn put_removal(&mut self, record: RemovalRecord) {
        let item = record.item;
        self.now.rows.remove(&item);
        self.now.removals.insert(item, record);
        self.past.removed.insert(item);
        self.announce(item);
    }

    /// Enters steps at the end of an item's chain, as somebody commits them.
    fn append(&mut self, item: ItemId, steps: &[ChainLink]) {
        let chain = self.now.chains.entry(item).or_default();
        for link in steps {
            let parent = chain.last().map(|last| last.revision);
            if parent == Some(link.revision) {
                continue;
            }
            chain.push(*link);
            match self.past.parents.get(&link.revision) {
                Some((_, known, before)) if *before != parent || !known.content.same_as(&link.content) => {
                    let text = format!("S6: {item:?}: {link:?} followed {before:?}, and now {parent:?}");
                    self.past.violations.push(text);
                }
                Some(_) => {}
                None => _ = self.past.parents.insert(link.revision, (item, *link, parent)),
            }
        }
    }

    /// The item and step under a revision.
    fn step_under(&self, revision: &Revision) -> Option<(ItemId, ChainLink)> {
        let step = |(item, chain): (&ItemId, &Vec<ChainLink>)| {
            Some((*item, *chain.iter().find(|link| link.revision == *revision)?))
        };
        self.now.chains.iter().find_map(step)
    }

    /// Whether one of these steps cannot enter the item's chain, since its revision stands there or elsewhere.
    fn is_reused(&mut self, item: &ItemId, steps: &[ChainLink]) -> bool {
        let end = self.now.chains.get(item).and_then(|chain| chain.last().copied());
        let mut chain: Vec<_> = end.into_iter().collect();
        for link in steps {
            let is_end = chain
                .last()
                .is_some_and(|end| end.revision == link.revision && end.content.same_as(&link.content));
            let twice = chain.iter().any(|known| known.revision == link.revision);
            if !is_end && (twice || self.step_under(&link.revision).is_some()) {
                self.past.violations.push(format!("S2: {:?} is used for another change", link.revision));
                return true;
            }
            chain.push(*link);
        }
        false
    }

    fn free_path(&self, new: ItemId, asked: &tcat_engine::paths::MediaPath) -> tcat_engine::paths::MediaPath {
        let taken =
            |folded| self.now.rows.values().any(|row| row.item != new && row.cache_path.folded() == folded);
        let (mut path, mut n) = (asked.clone(), 1);
        while taken(path.folded()) {
            path = asked.numbered(n);
            n += 1;
        }
        path
    }

    /// Enters a new item; nothing, if its revision stands for something else.
    pub fn create(&mut self, new: &NewItem) -> Option<Created> {
        new.steps_after(None).iter().for_each(|link| self.note(link));
        let at_path = self.now.rows.values().find(|row| row.cache_path.folded() == new.asked_path.folded());
        let facts = CreateFacts {
            row: self.now.rows.get(&new.item),
            removed: self.now.removals.contains_key(&new.item),
            member: self.is_member(&new.author),
            at_path,
        };
        match rules::create(&self.plants, new, &facts) {
            CreateVerdict::There(row) => return Some(Created::Row(Box::new(row.clone()))),
            CreateVerdict::Adopt(row) => return Some(Created::Adopted(Box::new(row.clone()))),
            CreateVerdict::Removed => return Some(Created::Removed),
            CreateVerdict::NotMember => return None,
            CreateVerdict::Enter => {}
        }
        let chain = self.now.chains.get(&new.item);
        let steps = new.steps_after(chain.and_then(|chain| chain.last()));
        if self.is_reused(&new.item, &steps) {
            return None;
        }
        self.append(new.item, &steps);
        let row = CatalogRow {
            item: new.item,
            state: RowState::Pending { owner: new.author },
            revision: new.revision,
            content: new.content,
            object: None,
            generation: 0,
            cache_path: self.free_path(new.item, &new.asked_path),
            virtual_path: new.asked_path.to_string(),
            content_type: new.content_type.clone(),
            claim_epoch: 0,
            upload: true,
            version_of: new.version_of,
            chain: Vec::new(),
        };
        Some(Created::Row(Box::new(self.put_row(row))))
    }

    fn name(&self, id: ObjectId, item: ItemId, content: &Content, generation: u32) -> Name {
        match self.now.names.get(&id) {
            None => Name::Free,
            Some(Named { state: Name::Condemned, .. }) => Name::Condemned,
            Some(named) => {
                let same =
                    named.item == item && named.content.same_as(content) && named.generation == generation;
                if same { named.state } else { Name::Taken }
            }
        }
    }

    fn set_name(&mut self, id: ObjectId, item: ItemId, content: Content, generation: u32, state: Name) {
        self.now.names.insert(id, Named { item, content, generation, state });
        if state == Name::Condemned {
            self.past.condemned.insert(id);
        }
    }

    /// Registers a name before its first byte; false if another is to be taken.
    pub fn intend(&mut self, object: &Object) -> bool {
        let Object { id, item, content, generation } = *object;
        match rules::intend(self.name(id, item, &content, generation), true) {
            IntendVerdict::Register => self.set_name(id, item, content, generation, Name::Intent),
            IntendVerdict::Live => {}
            IntendVerdict::Refused(_) | IntendVerdict::Taken => return false,
        }
        true
    }

    /// Somebody is about to ask for this commit, whether it arrives or not. A save has one name, so it is never asked for
    /// under two, but where more than one node names it, or what looks the same, before it has heard of the other's name:
    /// then either may be asked for, by those who took the edit from the one or the other, and each of these has one name
    /// for it. That at most one of them is entered is checked where steps are. So it is with those who share a folder:
    /// all of them see a save that is made in it. And so it is with a content to whose files persons have given other
    /// names (`names_it` says of both): two persons at two nodes who each give a copy of it to an item make an edit each.
    pub fn asked(&mut self, commit: &Commit, names_it: impl Fn(&ClientId, &Content) -> bool) {
        for link in &commit.line {
            let client = link.revision.0.client;
            let key = (commit.item, link.content, names_it(&client, &link.content).then_some(client));
            let first = *self.past.asked.entry(key).or_insert(link.revision);
            if first != link.revision {
                let text = format!("S5: {:?} is asked for as {first:?} and as {link:?}", commit.item);
                self.past.violations.push(text);
            }
        }
    }

    /// Contents that were to be committed and are nowhere in the catalog.
    pub fn unanswered(&self) -> Vec<String> {
        let lost = self.past.asked.keys().filter(|(_, content, _)| !self.knows(content));
        lost.map(|(item, content, _)| format!("S8: {content:?} of {item:?} was offered and is lost"))
            .collect()
    }

    /// Gives items other paths: all their names are free before the first is given.
    pub fn repath(&mut self, repath: &Repath) -> Repathed {
        let mut free = BTreeMap::new();
        for place in &repath.places {
            let killed = |row: &CatalogRow| !matches!(row.state, RowState::Pending { .. } | RowState::Active);
            let row =
                self.now.rows.get(&place.item).filter(|row| !killed(row) && row.cache_path == place.seen);
            if row.is_some() {
                free.insert(place.item, place);
            }
        }
        let mut taken: BTreeSet<FoldedPath> = self
            .now
            .rows
            .values()
            .filter(|row| !free.contains_key(&row.item))
            .map(|row| row.cache_path.folded())
            .collect();
        for place in repath.places.iter().filter(|place| free.contains_key(&place.item)) {
            let numbered = (1..).map(|n| place.asked.numbered(n));
            let path = std::iter::once(place.asked.clone()).chain(numbered);
            let path = path.into_iter().find(|path| !taken.contains(&path.folded()));
            let (Some(path), Some(mut row)) = (path, self.now.rows.get(&place.item).cloned()) else {
                continue;
            };
            taken.insert(path.folded());
            if row.cache_path != path {
                row.cache_path = path;
                self.put_row(row);
            }
        }
        let rows = repath.places.iter().filter_map(|place| self.now.rows.get(&place.item).cloned());
        Repathed::Rows(rows.collect())
    }

    /// The row of the item at a path.
    pub fn row_at(&self, path: &str) -> Option<&CatalogRow> {
        let path = MediaPath::parse(path).ok()?;
        self.now.rows.values().find(|row| row.cache_path == path)
    }

    /// Commits a content.
    pub fn commit(&mut self, commit: &Commit) -> Committed {
        commit.line.iter().for_each(|link| self.note(link));
        let row = self.now.rows.get(&commit.item).cloned();
        let content = rules::commit_content(commit, row.as_ref()).map(|(_, last)| last.content);
        let name = content
            .map_or(Name::Free, |content| self.name(commit.object, commit.item, &content, commit.generation));
        let last_step = commit.line.last().and_then(|last| self.step_under(&last.revision));
        let facts =
            CommitFacts { row: row.as_ref(), last_step, standing: self.standing(&commit.author), name };
        let refuse = |why| Committed::Refused { why, row: row.clone().map(Box::new) };
        match (rules::commit(&self.plants, commit, &facts), row.clone()) {
            (CommitVerdict::Made, Some(row)) => Committed::Row(Box::new(row)),
            (CommitVerdict::Enter { steps, .. }, _) if self.is_reused(&commit.item, steps) => {
                refuse(Refusal::Revision)
            }
            (CommitVerdict::Enter { steps, last }, Some(mut row)) => {
                self.check_fence(commit);
                if !self.objects.get(&commit.object).is_some_and(|held| held.same_as(&last.content)) {
                    let text = format!("S7: {:?} is committed without its object", commit.item);
                    self.past.violations.push(text);
                }
                self.set_name(commit.object, commit.item, last.content, commit.generation, Name::Live);
                self.append(commit.item, steps);
                (row.revision, row.content) = (last.revision, last.content);
                (row.object, row.generation) = (Some(commit.object), commit.generation);
                (row.claim_epoch, row.state) = (commit.claim_epoch, RowState::Active);
                Committed::Row(Box::new(self.put_row(row)))
            }
            (CommitVerdict::Refused(why), _) => refuse(why),
            (CommitVerdict::NameTaken, _) => refuse(Refusal::Condemned),
            (CommitVerdict::RevisionReused(revision), _) => {
                self.past.violations.push(format!("S2: {revision:?} is used for another change"));
                refuse(Refusal::Revision)
            }
            _ => refuse(Refusal::Killed),
        }
    }

    fn check_fence(&mut self, commit: &Commit) {
        let highest = self.now.fences.entry(commit.item).or_default();
        if commit.claim_epoch < *highest {
            let text = format!("S1: {:?} took epoch {} after {highest}", commit.item, commit.claim_epoch);
            self.past.violations.push(text);
        }
        *highest = commit.claim_epoch.max(*highest);
    }

    /// One step of a kill.
    pub fn kill(&mut self, kill: &Kill) -> Killing {
        let row = self.now.rows.get(&kill.item).cloned();
        let removal = self.now.removals.get(&kill.item).cloned();
        match (rules::kill(kill, row.as_ref(), removal.is_some(), &self.standing(&kill.author)), row, removal)
        {
            (KillVerdict::Gone, _, Some(record)) => Killing::Removed(record),
            (KillVerdict::Made, Some(row), _) => self.killing(row),
            (KillVerdict::Mark(state), Some(row), _) => {
                let row = self.put_row(CatalogRow { state, ..row });
                self.killing(row)
            }
            (KillVerdict::Condemn, Some(row), _) => {
                self.condemn_all(&row);
                let next =
                    CatalogRow { state: RowState::KillWip, claim_epoch: kill.claim_epoch, ..row.clone() };
                let row = if next == row { row } else { self.put_row(next) };
                self.killing(row)
            }
            (KillVerdict::Remove, Some(row), _) => {
                let chain = self.now.chains.get(&row.item).map_or(&[][..], Vec::as_slice);
                let record = rules::removal_record(&row, chain);
                self.put_removal(record.clone());
                Killing::Removed(record)
            }
            (KillVerdict::Refused(why), row, _) => Killing::Refused { why, row: row.map(Box::new) },
            (_, row, _) => Killing::Refused { why: Refusal::Killed, row: row.map(Box::new) },
        }
    }

    fn killing(&self, row: CatalogRow) -> Killing {
        let condemned = |(id, named): (&ObjectId, &Named)| {
            (named.item == row.item && named.state == Name::Condemned).then_some(*id)
        };
        let objects = match row.state {
            RowState::KillWip => self.now.names.iter().filter_map(condemned).collect(),
            _ => Vec::new(),
        };
        Killing::Row { row: Box::new(row), objects }
    }

    fn condemn_names(&mut self, item: &ItemId) {
        let named = self.now.names.iter().filter(|(_, named)| named.item == *item);
        let named: Vec<_> = named.map(|(id, named)| (*id, *named)).collect();
        for (id, Named { item, content, generation, .. }) in named {
            self.set_name(id, item, content, generation, Name::Condemned);
        }
    }

    fn condemn_all(&mut self, row: &CatalogRow) {
        self.condemn_names(&row.item);
        self.set_name(row.object_name(), row.item, row.content, row.generation, Name::Condemned);
    }

    /// A row's object is missing or wrong.
    pub fn unsound(&mut self, order: &Unsound) -> Committed {
        let row = self.now.rows.get(&order.item).cloned();
        match (rules::unsound(order, row.as_ref(), &self.standing(&order.author)), row) {
            (Ok(()), Some(mut row)) => {
                self.set_name(order.object, row.item, row.content, row.generation, Name::Condemned);
                row.state = RowState::Pending { owner: order.author };
                (row.object, row.generation) = (None, row.generation + 1);
                Committed::Row(Box::new(self.put_row(row)))
            }
            (Ok(()), None) => Committed::Refused { why: Refusal::Killed, row: None },
            (Err(why), row) => Committed::Refused { why, row: row.map(Box::new) },
        }
    }

    /// Begins a new epoch, unless another has begun.
    pub fn new_epoch(&mut self, order: &NewEpoch) -> CatalogEpoch {
        if let Some(epoch) = rules::new_epoch(order, &self.standing(&order.author)) {
            self.now.epoch = epoch;
        }
        self.now.epoch
    }

    /// Takes what this life has lost.
    pub fn offer(&mut self, offer: &Offer) -> Offered {
        if offer.catalog_epoch != self.now.epoch {
            return Offered::Refused(Refusal::CatalogEpoch);
        }
        for fact in &offer.facts {
            self.take(fact, offer);
        }
        Offered::Taken
    }

    fn take(&mut self, fact: &FeedChange, offer: &Offer) {
        let condemned = match fact {
            FeedChange::Row(row) => {
                self.name(row.object_name(), row.item, &row.content, row.generation) == Name::Condemned
            }
            FeedChange::Removed(_) => false,
        };
        let facts = OfferFacts {
            row: self.now.rows.get(&fact.item()),
            removal: self.now.removals.get(&fact.item()),
            condemned,
            author: offer.author,
        };
        match rules::offer(&self.plants, fact, &facts) {
            OfferVerdict::Nothing => {}
            OfferVerdict::Remove(record) => {
                self.condemn_names(&record.item);
                self.put_removal(record);
            }
            OfferVerdict::Enter(mut row) => {
                let known = self.now.chains.get(&row.item).and_then(|chain| chain.last().copied());
                let at = known.and_then(|known| row.chain.iter().position(|l| l.revision == known.revision));
                let steps = row.chain.split_off(at.map_or(0, |at| at + 1));
                row.cache_path = self.free_path(row.item, &row.cache_path);
                self.write(*row, &steps);
            }
            OfferVerdict::Extend { steps, row } => self.write(*row, &steps),
        }
    }

    fn write(&mut self, row: CatalogRow, steps: &[ChainLink]) {
        if steps.iter().any(|link| self.step_under(&link.revision).is_some()) {
            return;
        }
        self.append(row.item, steps);
        match row.state {
            RowState::Active => {
                let name = row.object_name();
                if matches!(
                    self.name(name, row.item, &row.content, row.generation),
                    Name::Free | Name::Intent
                ) {
                    self.set_name(name, row.item, row.content, row.generation, Name::Live);
                }
            }
            RowState::KillWip | RowState::KillComplete => self.condemn_all(&row),
            RowState::Pending { .. } | RowState::KillRequest => {}
        }
        self.put_row(row);
    }

    /// Stores an object; false if the name holds something else.
    pub fn put(&mut self, object: ObjectId, content: Content) -> bool {
        self.puts += 1;
        *self.puts_of.entry(content).or_default() += 1;
        self.objects.entry(object).or_insert(content).same_as(&content)
    }

    /// Fetches an object.
    pub fn get(&mut self, object: ObjectId) -> Option<Content> {
        let content = self.objects.get(&object).copied()?;
        *self.fetches.entry(content).or_default() += 1;
        Some(content)
    }

    /// Whether an object's name is condemned here.
    pub fn is_condemned(&self, object: &ObjectId) -> bool {
        self.now.names.get(object).is_some_and(|named| named.state == Name::Condemned)
    }

    /// Deletes an object, if it is there.
    pub fn delete(&mut self, object: ObjectId) {
        if !self.past.condemned.contains(&object) {
            self.past.violations.push(format!("S7: {object:?} is deleted and was never condemned"));
        }
        self.objects.remove(&object);
    }

    /// An item's row.
    pub fn row(&self, item: &ItemId) -> Option<&CatalogRow> {
        self.now.rows.get(item)
    }

    /// Whether a content is in an object.
    pub fn stores(&self, content: &Content) -> bool {
        self.objects.values().any(|stored| stored.same_as(content))
    }
}
