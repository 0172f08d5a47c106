//! Where a file goes that leaves its place: into trash under its own path, or beside under a conflict name.
//!
//! What holds always: it gets there by a rename that replaces nothing, and both folders are durable before the act
//! goes on. A second name that a crash left behind (where a rename is a link and a removal) is found and removed
//! instead of making a second copy.

use super::steps::{Renamed, Run, Steps, fail};
use super::{ATTEMPTS_MAX, Failure, NAMES_MAX, Place, TrashPlace};
use crate::observation::FileStat;
use crate::paths::MediaPath;
use crate::planted::Plants;

/// A file in trash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// Where.
    pub place: TrashPlace,
    /// Its stat there.
    pub stat: FileStat,
}

/// A free name in the trash of `day` for a file of this path: nobody but tcat takes names there.
pub(super) fn free_in_trash<P: Plants>(
    steps: &mut Steps<'_, P>,
    path: &MediaPath,
    day: &str,
) -> Run<TrashPlace> {
    let below = trash_folders(steps, path, day)?;
    for n in 0..NAMES_MAX {
        let path = if n == 0 { below.clone() } else { below.numbered(n) };
        let place = TrashPlace { day: day.to_owned(), path };
        if steps.look(&Place::Trash(place.clone()), "looked for a name in trash")?.is_none() {
            return Ok(place);
        }
    }
    fail(Failure::NoFreeName(path.to_string()))
}

/// Moves a file to trash, to this place or, if that was taken meanwhile, the next free name; `None` if it is gone.
pub(super) fn to_trash<P: Plants>(
    steps: &mut Steps<'_, P>,
    from: &Place,
    wanted: &TrashPlace,
) -> Run<Option<Kept>> {
    if steps.make_trash_folders(&Place::Trash(wanted.clone()))?.is_some() {
        return fail(Failure::Restless(wanted.path.to_string()));
    }
    for n in 0..NAMES_MAX {
        let path = if n == 0 { wanted.path.clone() } else { wanted.path.numbered(n) };
        let place = TrashPlace { day: wanted.day.clone(), path };
        let there = Place::Trash(place.clone());
        match steps.rename(from, &there, "trashed")? {
            Renamed::Done => {
                steps.sync_folder(&there, "trashed durably")?;
                steps.sync_folder(from, "gone durably")?;
            }
            Renamed::Occupied if is_left_over(steps, from, &there)? => {}
            Renamed::Occupied => continue,
            Renamed::Missing => return Ok(None),
        }
        let looked = steps.look(&there, "in trash")?;
        return Ok(looked.map(|looked| Kept { place, stat: looked.stat }));
    }
    fail(Failure::NoFreeName(wanted.path.to_string()))
}

/// The path under the day whose folders there are now. A file that was trashed under a folder's name makes the folder
/// take the next.
fn trash_folders<P: Plants>(steps: &mut Steps<'_, P>, path: &MediaPath, day: &str) -> Run<MediaPath> {
    let mut parts: Vec<String> = path.components().map(str::to_owned).collect();
    let mut taken = vec![0; parts.len()];
    loop {
        let below = media_path(&parts.join("/"))?;
        let place = Place::Trash(TrashPlace { day: day.to_owned(), path: below.clone() });
        let Some(at) = steps.make_trash_folders(&place)? else { return Ok(below) };
        let (Some(part), Some(taken)) = (parts.get_mut(at), taken.get_mut(at)) else {
            return fail(Failure::Confused("a part that the path does not have"));
        };
        *taken += 1;
        if *taken >= NAMES_MAX {
            return fail(Failure::NoFreeName(path.to_string()));
        }
        let original: Vec<&str> = path.components().take(at + 1).collect();
        *part = media_path(&original.join("/"))?.numbered(*taken).file_name().to_owned();
    }
}

/// Moves a file to the first free conflict name beside the path; `None` if it is gone.
pub(super) fn keep_beside<P: Plants>(
    steps: &mut Steps<'_, P>,
    from: &Place,
    path: &MediaPath,
    author_name: &str,
) -> Run<Option<MediaPath>> {
    let mut restless = 0;
    let mut n = 1;
    while n <= NAMES_MAX && restless < ATTEMPTS_MAX {
        let kept = path.conflict_name(author_name, n);
        let place = Place::Media(kept.clone());
        steps.make_folders(&place)?;
        match steps.rename(from, &place, "kept beside")? {
            Renamed::Done => {
                steps.sync_folder(&place, "kept beside durably")?;
                steps.sync_folder(from, "gone durably")?;
                return Ok(Some(kept));
            }
            Renamed::Occupied if is_left_over(steps, from, &place)? => return Ok(Some(kept)),
            Renamed::Occupied => n += 1,
            Renamed::Missing if steps.look(from, "missed")?.is_none() => return Ok(None),
            Renamed::Missing => restless += 1,
        }
    }
    fail(Failure::NoFreeName(path.to_string()))
}

/// Whether a name of ours in `.tcat/tmp` is only the second name of what is at `place`; then it is removed.
pub(super) fn is_left_over<P: Plants>(steps: &mut Steps<'_, P>, from: &Place, place: &Place) -> Run<bool> {
    let Place::Temp(name) = from else { return Ok(false) };
    if !steps.are_one_file(from, place)? {
        return Ok(false);
    }
    steps.remove(name, "second name removed")?;
    Ok(true)
}

fn media_path(text: &str) -> Run<MediaPath> {
    MediaPath::parse(text).or_else(|_| fail(Failure::NameImpossible(text.to_owned())))
}
