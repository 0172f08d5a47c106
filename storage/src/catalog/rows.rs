//! Columns into facts and back. What does not read as what it should be is damage, and named.
//!
//! Not here: queries that belong to one operation. How each fact is written is told in [`super::schema`].

use super::error::{CatalogError, explain};
use super::session::Session;
use data_encoding::BASE64;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use std::str::FromStr;
use tcat_engine::catalog::{
    CHAIN_LINKS_MAX, CatalogEpoch, CatalogRow, ChainLink, FeedChange, RemovalRecord, Revision, RowState,
};
use tcat_engine::clock::{Dot, Incarnation, Stamp};
use tcat_engine::content::{Blake3, Content, Md5};
use tcat_engine::ids::{ClientId, ItemId, from_hex, hex};
use tcat_engine::paths::MediaPath;

/// The columns of `tcat_media` that [`Reader::media`] reads.
macro_rules! media_columns {
    () => {
        "id, virtualPath, contentType, state, md5, owner, revision, size, blake3, objectId, generation, cachePath, \
         claimEpoch, upload, versionOf"
    };
}
pub(super) use media_columns;

/// A revision as SQL has it.
pub(super) fn revision_text(revision: &Revision) -> String {
    format!("{}.{}", revision.0.client, stamp_text(&revision.0.stamp))
}

/// A stamp as SQL has it; text order is the order of stamps.
pub(super) fn stamp_text(stamp: &Stamp) -> String {
    format!("{:016x}.{:016x}", stamp.incarnation.0, stamp.counter)
}

/// An MD5 as SQL has it.
pub(super) fn md5_text(md5: &Md5) -> String {
    BASE64.encode(&md5.0)
}

/// A content's columns md5, size and blake3.
pub(super) struct ContentColumns {
    pub md5: String,
    pub size: i64,
    pub blake3: Option<String>,
}

impl ContentColumns {
    pub(super) fn of(session: &Session, content: &Content) -> Result<Self, CatalogError> {
        let size = session.integer(content.size)?;
        Ok(Self { md5: md5_text(&content.md5), size, blake3: content.blake3.map(|digest| hex(&digest.0)) })
    }
}

/// Reads one row of an answer.
pub(super) struct Reader<'a> {
    catalog: &'a str,
    row: &'a SqliteRow,
}

impl<'a> Reader<'a> {
    pub(super) fn new(session: &'a Session, row: &'a SqliteRow) -> Self {
        Self { catalog: session.shown(), row }
    }

    pub(super) fn text(&self, column: &'static str) -> Result<String, CatalogError> {
        self.column(column)
    }

    pub(super) fn unsigned(&self, column: &'static str) -> Result<u64, CatalogError> {
        let value: i64 = self.column(column)?;
        u64::try_from(value).map_err(|_| self.damaged(column, &value))
    }

    pub(super) fn id<T: FromStr>(&self, column: &'static str) -> Result<T, CatalogError> {
        let text = self.text(column)?;
        text.parse().map_err(|_| self.damaged(column, &text))
    }

    pub(super) fn random_id(&self, column: &'static str) -> Result<[u8; 16], CatalogError> {
        let text = self.text(column)?;
        from_hex(&text).map_err(|_| self.damaged(column, &text))
    }

    pub(super) fn optional_text(&self, column: &'static str) -> Result<Option<String>, CatalogError> {
        self.column(column)
    }

    pub(super) fn md5(&self) -> Result<Md5, CatalogError> {
        let text = self.text("md5")?;
        let bytes = BASE64.decode(text.as_bytes()).ok().and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
        bytes.map(Md5).ok_or_else(|| self.damaged("md5", &text))
    }

    pub(super) fn content(&self) -> Result<Content, CatalogError> {
        Ok(Content {
            md5: self.md5()?,
            size: self.unsigned("size")?,
            blake3: self.optional_id::<Blake3>("blake3")?,
        })
    }

    pub(super) fn revision(&self) -> Result<Revision, CatalogError> {
        let text = self.text("revision")?;
        let read = text.split_once('.').and_then(|(client, stamp)| {
            Some(Revision(Dot { client: client.parse().ok()?, stamp: stamp_from(stamp)? }))
        });
        read.ok_or_else(|| self.damaged("revision", &text))
    }

    pub(super) fn stamp(&self, column: &'static str) -> Result<Stamp, CatalogError> {
        let text = self.text(column)?;
        if text.is_empty() {
            return Ok(Stamp::default());
        }
        stamp_from(&text).ok_or_else(|| self.damaged(column, &text))
    }

    pub(super) fn epoch(&self) -> Result<CatalogEpoch, CatalogError> {
        Ok(CatalogEpoch { number: self.unsigned("epochNumber")?, id: self.random_id("epochId")? })
    }

    pub(super) fn link(&self) -> Result<ChainLink, CatalogError> {
        Ok(ChainLink { revision: self.revision()?, content: self.content()? })
    }

    pub(super) fn path(&self) -> Result<MediaPath, CatalogError> {
        let text = self.text("cachePath")?;
        MediaPath::parse(&text).map_err(|_| self.damaged("cachePath", &text))
    }

    /// One row of `tcat_media`; its chain is filled in by the caller.
    pub(super) fn media(&self, chain: Vec<ChainLink>) -> Result<CatalogRow, CatalogError> {
        let generation = self.unsigned("generation")?;
        Ok(CatalogRow {
            item: self.id("id")?,
            state: self.state()?,
            revision: self.revision()?,
            content: self.content()?,
            object: self.optional_id("objectId")?,
            generation: u32::try_from(generation).map_err(|_| self.damaged("generation", &generation))?,
            cache_path: self.path()?,
            virtual_path: self.text("virtualPath")?,
            content_type: self.text("contentType")?,
            claim_epoch: self.unsigned("claimEpoch")?,
            upload: self.unsigned("upload")? == 1,
            version_of: self.optional_id("versionOf")?,
            chain,
        })
    }

    fn state(&self) -> Result<RowState, CatalogError> {
        let text = self.text("state")?;
        Ok(match text.as_str() {
            "pending" => RowState::Pending { owner: self.id::<ClientId>("owner")? },
            "active" => RowState::Active,
            "kill-request" => RowState::KillRequest,
            "kill-wip" => RowState::KillWip,
            "kill-complete" => RowState::KillComplete,
            _ => return Err(self.damaged("state", &text)),
        })
    }

    pub(super) fn optional_id<T: FromStr>(&self, column: &'static str) -> Result<Option<T>, CatalogError> {
        let text: Option<String> = self.column(column)?;
        text.map(|text| text.parse().map_err(|_| self.damaged(column, &text))).transpose()
    }

    fn column<'r, T>(&'r self, column: &'static str) -> Result<T, CatalogError>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        self.row.try_get(column).map_err(|error| explain(self.catalog, "reading a row", error))
    }

    fn damaged(&self, column: &'static str, value: &dyn std::fmt::Debug) -> CatalogError {
        CatalogError::Corrupt {
            catalog: self.catalog.to_owned(),
            why: format!("the column {column} holds {value:?}"),
        }
    }
}

fn stamp_from(text: &str) -> Option<Stamp> {
    let (incarnation, counter) = text.split_once('.')?;
    let incarnation = Incarnation(u64::from_be_bytes(from_hex(incarnation).ok()?));
    Some(Stamp { incarnation, counter: u64::from_be_bytes(from_hex(counter).ok()?) })
}

/// The item's row, if it has one.
pub(super) async fn row_of(session: &mut Session, item: ItemId) -> Result<Option<CatalogRow>, CatalogError> {
    let sql = concat!("SELECT ", media_columns!(), " FROM tcat_media WHERE catalogId = ?1 AND id = ?2");
    let query = sqlx::query(sql).bind(session.catalog()).bind(item.to_string());
    let Some(row) = session.fetch_optional(query).await? else { return Ok(None) };
    let chain = newest_links(session, item).await?;
    Reader::new(session, &row).media(chain).map(Some)
}

async fn newest_links(session: &mut Session, item: ItemId) -> Result<Vec<ChainLink>, CatalogError> {
    let query = sqlx::query(
        "SELECT revision, md5, size, blake3 FROM tcat_chain WHERE catalogId = ?1 AND item = ?2 \
         ORDER BY sequence DESC LIMIT ?3",
    );
    let query = query.bind(session.catalog()).bind(item.to_string()).bind(CHAIN_LINKS_MAX as i64);
    let rows = session.fetch_all(query).await?;
    rows.iter().rev().map(|row| Reader::new(session, row).link()).collect()
}

/// All steps of an item, oldest first.
pub(super) async fn whole_chain(session: &mut Session, item: ItemId) -> Result<Vec<ChainLink>, CatalogError> {
    let query = sqlx::query(
        "SELECT revision, md5, size, blake3 FROM tcat_chain WHERE catalogId = ?1 AND item = ?2 ORDER BY sequence",
    );
    let rows = session.fetch_all(query.bind(session.catalog()).bind(item.to_string())).await?;
    rows.iter().map(|row| Reader::new(session, row).link()).collect()
}

/// A row's state and owner as SQL has them.
pub(super) fn state_text(state: &RowState) -> (&'static str, Option<String>) {
    match state {
        RowState::Pending { owner } => ("pending", Some(owner.to_string())),
        RowState::Active => ("active", None),
        RowState::KillRequest => ("kill-request", None),
        RowState::KillWip => ("kill-wip", None),
        RowState::KillComplete => ("kill-complete", None),
    }
}

/// The item's removal record, if it was removed.
pub(super) async fn removal_of(
    session: &mut Session,
    item: ItemId,
) -> Result<Option<RemovalRecord>, CatalogError> {
    let query = sqlx::query("SELECT cachePath FROM tcat_removals WHERE catalogId = ?1 AND item = ?2");
    let query = query.bind(session.catalog()).bind(item.to_string());
    let Some(row) = session.fetch_optional(query).await? else { return Ok(None) };
    let query = sqlx::query(
        "SELECT md5, size, blake3 FROM tcat_removal_contents WHERE catalogId = ?1 AND item = ?2 ORDER BY sequence",
    );
    let query = query.bind(session.catalog()).bind(item.to_string());
    let rows = session.fetch_all(query).await?;
    let contents = rows.iter().map(|row| Reader::new(session, row).content()).collect::<Result<_, _>>()?;
    Ok(Some(RemovalRecord { item, cache_path: Reader::new(session, &row).path()?, contents }))
}

/// The item as it stands; a row before a removal record.
pub(super) async fn standing_of(
    session: &mut Session,
    item: ItemId,
) -> Result<Option<FeedChange>, CatalogError> {
    if let Some(row) = row_of(session, item).await? {
        return Ok(Some(FeedChange::Row(Box::new(row))));
    }
    Ok(removal_of(session, item).await?.map(FeedChange::Removed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::QuickCheck;

    #[test]
    fn the_text_order_of_stamps_is_their_order() {
        fn law(a: (u64, u64), b: (u64, u64)) -> bool {
            let stamp = |(life, counter)| Stamp { incarnation: Incarnation(life), counter };
            let (a, b) = (stamp(a), stamp(b));
            stamp_text(&a).cmp(&stamp_text(&b)) == a.cmp(&b) && stamp_from(&stamp_text(&a)) == Some(a)
        }
        QuickCheck::new().quickcheck(law as fn(_, _) -> bool);
    }
}
