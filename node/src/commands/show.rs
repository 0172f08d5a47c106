//! `tcat show`: one item in the catalog and in every cache.

use super::Context;
use crate::output::{self, Failure, clean, size, table};
use tcat_api::types::{CopyRow, ImportRow, MediaRow, Show};

/// The arguments.
#[derive(clap::Args, Debug)]
pub struct Args {
    /// The item's id, or its path in the media folder
    #[arg(value_name = "ITEM")]
    pub item: String,
}

/// Runs the command.
pub fn run(context: &Context, args: &Args) -> Result<(), Failure> {
    let what = format!("cannot show {:?}", args.item);
    let show = context.client(&what)?.show(&args.item).map_err(|error| Failure::of_client(&what, &error))?;
    if context.global.json {
        return output::say_json(&show);
    }
    output::say(&report(&show))
}

fn report(show: &Show) -> String {
    let media = show.tcat_media.as_ref().map_or("not in the catalog".to_owned(), media_lines);
    let import = match (&show.tcat_import, &show.catalog_away) {
        (Some(import), _) => import_lines(import),
        (None, None) => "no record of its import".to_owned(),
        (None, Some(why)) => {
            format!("the catalog cannot be asked, so this is what was read of it last: {}", clean(why))
        }
    };
    let copies = if show.copies.is_empty() { "no copies".to_owned() } else { copy_lines(&show.copies) };
    format!("{media}\n\n{import}\n\n{copies}")
}

fn media_lines(row: &MediaRow) -> String {
    let mut lines = vec![
        ("item", row.id.clone()),
        ("path", row.cache_path.clone()),
        ("imported as", row.virtual_path.clone()),
        ("type", row.content_type.clone()),
        ("state", row.state.clone()),
        ("size", size(row.size)),
        ("md5", row.md5.clone()),
    ];
    lines.extend(row.blake3.clone().map(|blake3| ("blake3", blake3)));
    lines.push(("revision", row.revision.clone()));
    lines.push(("object", format!("{}, generation {}", row.object_id, row.generation)));
    lines.extend(row.version_of.clone().map(|item| ("version of", item)));
    if !row.upload {
        lines.push(("upload", "no".to_owned()));
    }
    named(&lines)
}

fn import_lines(row: &ImportRow) -> String {
    named(&[
        ("imported by", row.source.clone()),
        ("from", format!("{}/{}", row.source_server, row.source_path)),
        ("import", row.state.clone()),
        ("uploaded", row.upload_date.clone().unwrap_or_else(|| "not yet".to_owned())),
    ])
}

fn named(lines: &[(&str, String)]) -> String {
    let rows: Vec<Vec<String>> =
        lines.iter().map(|(name, text)| vec![(*name).to_owned(), text.clone()]).collect();
    table(&rows)
}

fn copy_lines(copies: &[CopyRow]) -> String {
    let mut rows = vec![["copy at", "state", "md5", "since", "path"].map(str::to_owned).to_vec()];
    for copy in copies {
        let state = match (&copy.cached_date, copy.settled) {
            (None, _) => "pending",
            (Some(_), true) => "equals the catalog",
            (Some(_), false) => "differs",
        };
        rows.push(vec![
            clean(&copy.client),
            state.to_owned(),
            copy.md5.clone().unwrap_or_else(|| "-".to_owned()),
            copy.cached_date.clone().unwrap_or_else(|| "-".to_owned()),
            copy.path.clone(),
        ]);
    }
    table(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_without_the_catalog_is_said_to_be_that() {
        let show =
            Show { catalog_away: Some("no connected member knows its host".into()), ..Default::default() };
        let text = report(&show);
        assert!(text.contains("what was read of it last: no connected member knows its host"), "{text}");
        assert!(!text.contains("no record"), "{text}");
    }

    #[test]
    fn a_pending_copy_is_told_from_one_that_is_held() {
        let held = CopyRow {
            client: "anna".into(),
            cached_date: Some("2026-01-01T00:00:00Z".into()),
            md5: Some("00".into()),
            settled: true,
            ..Default::default()
        };
        let pending = CopyRow { client: "ben".into(), ..Default::default() };
        let text = report(&Show { copies: vec![held, pending], ..Default::default() });
        assert!(text.starts_with("not in the catalog\n\nno record of its import\n\n"), "{text}");
        assert!(text.contains("anna     equals the catalog  00   2026-01-01T00:00:00Z"), "{text}");
        assert!(text.contains("ben      pending             -    -"), "{text}");
    }
}
