//! The laboratory's verifier: reads media folders, catalog and objects by itself and trusts no node.
//!
//! Takes a [`Saved`] as JSON on its standard input; prints a line for each thing that is not as it must be, and exits 0
//! only if there is none. What must be:
//! - every content that a person saved is somewhere: under a final name, in a trash, or among the objects;
//! - under final names is nothing that no person saved, so nothing partial, mixed or unverified;
//! - all folders that must be equal hold exactly the catalog's active rows;
//! - every row has its object, with the row's MD5 and size, and the store has nothing that the catalog never had.
//!
//! Left out: what nodes believe, and who was right in a conflict: both contents must be there, that is all.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::process::ExitCode;
use tcat::demo::verify::{
    Catalog, Digest, Tree, compare_objects, read_catalog, read_tree, read_tree_if_there, shown,
};
use tcat_tests::lab::judge::Saved;

fn main() -> ExitCode {
    let mut told = String::new();
    let read = std::io::stdin().read_to_string(&mut told).map_err(|why| why.to_string());
    let saved = read.and_then(|_| serde_json::from_str::<Saved>(&told).map_err(|why| why.to_string()));
    let saved = match saved {
        Ok(saved) => saved,
        Err(why) => {
            eprintln!("tcat-verify: the list of what was saved cannot be read: {why}");
            return ExitCode::from(2);
        }
    };
    let (good, differences) = match read_catalog(&saved.catalog) {
        Ok(catalog) => verify(&saved, &catalog),
        Err(why) => (String::new(), vec![format!("the catalog cannot be read: {why}")]),
    };
    differences.iter().for_each(|what| println!("{what}"));
    if differences.is_empty() {
        println!("{good}");
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}

/// One line of what was counted, and all that is wrong.
fn verify(saved: &Saved, catalog: &Catalog) -> (String, Vec<String>) {
    let mut differences = Vec::new();
    let (store, unreadable) = read_tree(&saved.objects, |folder| folder.starts_with('.'));
    differences.extend(unreadable.into_iter().map(|what| format!("objects: {what}")));
    differences.extend(compare_objects(catalog, &store));

    let known: BTreeSet<String> = saved.contents.iter().map(|content| content.md5.clone()).collect();
    let mut found: BTreeSet<String> = store.values().map(|(md5, _)| shown(md5)).collect();
    let active = active_rows(catalog, &mut differences);
    let places = saved.places.iter().map(|place| (place, true));
    for ((name, media), equal) in places.chain(saved.away.iter().map(|place| (place, false))) {
        let (tree, mut wrong) = read_tree(media, |folder| folder == ".tcat");
        let (trash, unreadable) = read_tree_if_there(&media.join(".tcat/trash"));
        wrong.extend(unreadable);
        found.extend(tree.values().chain(trash.values()).map(|(md5, _)| shown(md5)));
        let strange = tree.iter().filter(|(_, (md5, _))| !known.contains(&shown(md5)));
        wrong.extend(strange.map(|(path, (md5, size))| {
            format!("{path} holds {} ({size} bytes), which nobody saved", shown(md5))
        }));
        if equal {
            wrong.extend(compare_folder(&tree, &active));
        }
        differences.extend(wrong.into_iter().map(|what| format!("{name}: {what}")));
    }
    let lost = saved.contents.iter().filter(|content| !found.contains(&content.md5));
    differences.extend(lost.map(|lost| {
        format!("LOST: {} of {}, saved on {}, is nowhere any more", lost.md5, lost.path, lost.host)
    }));
    let good = format!(
        "verified: {} contents saved and found, {} items, {} equal folders, {} objects",
        saved.contents.len(),
        active.len(),
        saved.places.len(),
        store.len()
    );
    (good, differences)
}

/// What folders must hold, by path.
fn active_rows(catalog: &Catalog, differences: &mut Vec<String>) -> BTreeMap<String, Digest> {
    let mut active = BTreeMap::new();
    for row in &catalog.rows {
        match row.md5 {
            None => differences.push(format!("catalog: the MD5 of {} cannot be read", row.path)),
            Some(md5) if row.state == "active" => {
                if active.insert(row.path.clone(), md5).is_some() {
                    differences.push(format!("catalog: {} has two rows", row.path));
                }
            }
            Some(_) => differences.push(format!("catalog: {} is {} and not active", row.path, row.state)),
        }
    }
    active
}

fn compare_folder(tree: &Tree, active: &BTreeMap<String, Digest>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (path, md5) in active {
        match tree.get(path) {
            None => wrong.push(format!("{path} is missing")),
            Some((found, _)) if found != md5 => {
                wrong.push(format!("{path} holds {} and the catalog says {}", shown(found), shown(md5)));
            }
            Some(_) => {}
        }
    }
    let extra = tree.keys().filter(|path| !active.contains_key(*path));
    wrong.extend(extra.map(|path| format!("{path} is not in the catalog")));
    wrong
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::fs;
    use std::path::PathBuf;
    use tcat::demo::verify::{CatalogRow, hash_bytes};
    use tcat_tests::lab::judge::Content;
    use tempfile::TempDir;

    const OBJECT: &str = "0b6f7a52-3c1d-8e2f-9a4b-5c6d7e8f9a0b";

    struct World {
        folder: TempDir,
        saved: Saved,
        catalog: Catalog,
    }

    impl World {
        /// Two equal folders with one file, its row and its object; an earlier content is in ben's trash.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let at = |path: &str| folder.path().join(path);
            for (path, text) in
                [("anna/a.jpg", "new"), ("ben/a.jpg", "new"), ("ben/.tcat/trash/a.jpg", "old"), ("o/", "new")]
            {
                let path = if path == "o/" { at("o").join(OBJECT) } else { at(path) };
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            let content = |text: &str| Content {
                path: "a.jpg".into(),
                md5: shown(&hash_bytes(text.as_bytes())),
                host: "anna".into(),
            };
            let saved = Saved {
                places: vec![("anna".into(), at("anna")), ("ben".into(), at("ben"))],
                objects: at("o"),
                contents: vec![content("old"), content("new")],
                ..Saved::default()
            };
            let (old, new) = (hash_bytes(b"old"), hash_bytes(b"new"));
            let row = CatalogRow {
                path: "a.jpg".into(),
                state: "active".into(),
                md5: Some(new),
                size: 3,
                object: OBJECT.into(),
                import_state: Some("complete".into()),
            };
            let catalog = Catalog { rows: vec![row], contents: BTreeSet::from([old, new]) };
            Self { folder, saved, catalog }
        }

        fn at(&self, path: &str) -> PathBuf {
            self.folder.path().join(path)
        }

        /// The differences are as many as the words, and each holds its word.
        #[track_caller]
        fn differs_by(&self, words: &[&str]) {
            let (_, found) = verify(&self.saved, &self.catalog);
            let all = words.iter().zip(&found).all(|(word, what)| what.contains(word));
            assert!(found.len() == words.len() && all, "{words:?} expected, found {found:#?}");
        }
    }

    #[test]
    fn what_is_right_is_counted() {
        let world = World::new();
        world.differs_by(&[]);
        let said = verify(&world.saved, &world.catalog).0;
        assert_eq!(said, "verified: 2 contents saved and found, 1 items, 2 equal folders, 1 objects");
    }

    #[test]
    fn a_content_that_is_nowhere_is_lost() {
        let world = World::new();
        fs::remove_file(world.at("ben/.tcat/trash/a.jpg")).unwrap();
        world.differs_by(&["LOST"]);
    }

    #[test]
    fn a_partial_file_under_a_final_name_is_found_even_where_a_host_is_away() {
        let mut world = World::new();
        fs::write(world.at("ben/a.jpg"), "ne").unwrap();
        world.differs_by(&["ben: a.jpg holds", "and the catalog says"]);
        world.saved.away = vec![world.saved.places.pop().unwrap()];
        world.differs_by(&["which nobody saved"]);
    }

    #[test]
    fn folders_must_be_the_catalog_s_but_those_that_are_away() {
        let mut world = World::new();
        fs::remove_file(world.at("ben/a.jpg")).unwrap();
        world.differs_by(&["ben: a.jpg is missing"]);
        fs::write(world.at("ben/b.jpg"), "new").unwrap();
        world.differs_by(&["ben: a.jpg is missing", "ben: b.jpg is not in the catalog"]);
        world.saved.away = vec![world.saved.places.pop().unwrap()];
        world.differs_by(&[]);
    }

    #[test]
    fn rows_that_are_not_active_or_without_their_object_are_found() {
        let mut world = World::new();
        fs::write(world.at("o").join(OBJECT), "ne?").unwrap();
        world.differs_by(&["and not what its row says", "nothing that the catalog ever had"]);
        fs::write(world.at("o").join(OBJECT), "new").unwrap();
        world.catalog.rows[0].state = "deleting".into();
        let not = "is not in the catalog";
        world.differs_by(&["is deleting and not active", not, not]);
    }
}
