//! How items came in: the rows of `tcat_import`, for people.

use super::error::CatalogError;
use super::rows::Reader;
use super::session::Session;
use tcat_engine::content::Md5;
use tcat_engine::ids::ItemId;

/// An item's row in `tcat_import`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Import {
    /// `pending-create`, `pending-upload`, `pending-repair` or `complete`.
    pub state: String,
    /// MD5 of the file when it was imported.
    pub md5: Md5,
    /// The root of `source_path`.
    pub source_server: String,
    /// Relative to `source_server`.
    pub source_path: String,
    /// When it was uploaded, RFC 3339 in UTC; none before.
    pub upload_date: Option<String>,
    /// The name of the client that imported it.
    pub source: String,
}

/// See [`super::Catalog::import`].
pub(super) async fn import(session: &mut Session, item: ItemId) -> Result<Option<Import>, CatalogError> {
    let query = sqlx::query(
        "SELECT state, md5, sourceServer, sourcePath, uploadDate, source FROM tcat_import \
         WHERE catalogId = ?1 AND id = ?2",
    );
    let query = query.bind(session.catalog()).bind(item.to_string());
    let Some(row) = session.fetch_optional(query).await? else { return Ok(None) };
    let reader = Reader::new(session, &row);
    Ok(Some(Import {
        state: reader.text("state")?,
        md5: reader.md5()?,
        source_server: reader.text("sourceServer")?,
        source_path: reader.text("sourcePath")?,
        upload_date: reader.optional_text("uploadDate")?,
        source: reader.text("source")?,
    }))
}
