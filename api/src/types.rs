//! The bodies of requests and answers, and so the JSON that `tcat --json` prints.
//!
//! Field names are a contract (docs/contracts.md): they are added to, never renamed. A reader ignores fields
//! that it does not know, so that an older `tcat` can ask a newer node. Ids and digests are text; sizes are
//! bytes; durations are whole milliseconds and end in `_ms`; points in time are RFC 3339 text in UTC.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An incarnation and a counter: how far into one client's writing.
pub type StampPair = (u64, u64);

/// The longest list in a [`WaitAnswer`] or a [`ScanAnswer`]; what is left out is counted.
pub const LIST_ITEMS_MAX: usize = 200;

/// The longest that one `wait` may take, in milliseconds: a day.
pub const WAIT_MS_MAX: u64 = 24 * 3600 * 1000;

/// `GET /v1/status`: one workgroup as this node sees it now.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub client: ClientStatus,
    /// The workgroup.
    pub workgroup: WorkgroupStatus,
    /// Whether this node has nothing left to do, as far as it knows.
    pub settled: bool,
    /// Whether the brake holds changes back until a person has decided.
    pub brake: bool,
    /// How far each client's ledger is known here, by client id.
    pub clock: BTreeMap<String, StampPair>,
    /// The other members.
    pub peers: Vec<PeerStatus>,
    /// The catalog's items by what this node has of them.
    pub media: MediaCounts,
    /// What is being done, was left to be done, or was given up.
    pub tasks: Vec<TaskStatus>,
    /// Bytes moved since this start.
    pub bytes: ByteCounts,
    /// Contents that this node has fetched from the object store since this start.
    pub cloud_fetches: u64,
    /// The member that keeps catalog and objects; none where no host does, or none is known.
    #[serde(default)]
    pub host: Option<HostStatus>,
}

/// The host.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct HostStatus {
    /// Its client id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is the node that answers.
    pub me: bool,
    /// Whether its catalog could be read at the last attempt.
    pub reachable: bool,
}

/// Who answers.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ClientStatus {
    /// The client id, in hexadecimal.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The current life of its database.
    pub incarnation: u64,
}

/// The workgroup that the answer is about.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WorkgroupStatus {
    /// The workgroup id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The `workgroup-clock`: the sum of the counters in the version vector.
    pub clock: u64,
}

/// Another member.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Its client id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it was heard, and heard us, within a lease.
    pub alive: bool,
    /// How long ago it was last heard; none if never since this start.
    pub last_contact_ms: Option<u64>,
    /// How many dots the version vectors, its last known one and ours, lie apart.
    pub lag: u64,
    /// How often it was refused or something of it dropped since this start, by what was wrong: `protocol`, `message`,
    /// `version`, `ledger`, `content`, `order`, `request`.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
}

/// How many items are in which case.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MediaCounts {
    /// All items that the catalog and this cache know.
    pub total: u64,
    /// Nothing to do.
    pub settled: u64,
    /// On the way to the object store.
    pub uploading: u64,
    /// On the way to this cache.
    pub downloading: u64,
    /// With a version item that keeps a conflicting content.
    pub conflict: u64,
    /// Wanted here, and nobody reachable has it.
    pub missing: u64,
    /// Given up after too many attempts.
    pub parked: u64,
}

/// One task.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TaskStatus {
    /// The task's id, unique on this node.
    pub id: String,
    /// The item's id.
    pub item: String,
    /// `download`, `upload`, `import`, ...
    pub kind: String,
    /// `waiting`, `running`, `retrying` or `parked`.
    pub state: String,
    /// Bytes moved.
    pub done_bytes: u64,
    /// Bytes to move, if that is known.
    pub total_bytes: Option<u64>,
    /// Why the last attempt failed.
    pub error: Option<String>,
}

/// Bytes moved since this start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ByteCounts {
    /// Received from members.
    pub lan_in: u64,
    /// Sent to members.
    pub lan_out: u64,
    /// Read from the object store.
    pub cloud_in: u64,
    /// Written to the object store.
    pub cloud_out: u64,
}

/// `POST /v1/wait`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WaitRequest {
    /// How long to wait at most; not more than [`WAIT_MS_MAX`].
    pub timeout_ms: u64,
}

/// `POST /v1/brake`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BrakeRequest {
    /// What a person says to the changes that are held; none only asks what these are.
    pub answer: Option<BrakeAnswer>,
}

/// What a person says to changes that the brake holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BrakeAnswer {
    /// They are meant: go on.
    Accept,
    /// They are not: bring everything back.
    Refuse,
}

/// What the brake holds; where it was just answered, what it held until then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct BrakeStatus {
    /// Whether it is on now.
    pub on: bool,
    /// Items whose file was deleted here.
    pub deleted: u64,
    /// Items whose content was rewritten here.
    pub rewritten: u64,
    /// Items whose name got another extension here.
    pub renamed: u64,
    /// New files that wait for the answer.
    pub new_files: u64,
    /// Refused changes that are not undone yet.
    pub undoing: u64,
}

/// What `wait` found. Conflicts, parked tasks and absent members do not hold it; they are told.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct WaitAnswer {
    /// Whether all reachable members were idle with equal vectors.
    pub settled: bool,
    /// How long it took.
    pub waited_ms: u64,
    /// Items with a conflicting content, which a person must look at.
    pub conflicts: Vec<ConflictNote>,
    /// Tasks that were given up.
    pub parked: Vec<TaskStatus>,
    /// Names of members that could not be asked.
    pub absent: Vec<String>,
    /// What is still being done, one line each; empty where `settled`.
    pub unfinished: Vec<String>,
    /// How many lines the lists above left out.
    pub left_out: u64,
}

impl WaitAnswer {
    /// Cuts every list to [`LIST_ITEMS_MAX`] and counts what was cut.
    pub fn bounded(mut self) -> Self {
        self.left_out += cut(&mut self.conflicts)
            + cut(&mut self.parked)
            + cut(&mut self.absent)
            + cut(&mut self.unfinished);
        self
    }
}

/// An item whose other content was kept beside it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConflictNote {
    /// The item's id.
    pub item: String,
    /// Where the catalog's content is.
    pub path: String,
    /// Where the other content is kept.
    pub kept_as: String,
}

/// `POST /v1/scan`: what a full scan saw.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ScanAnswer {
    /// Files looked at.
    pub files: u64,
    /// Files whose content had to be read.
    pub hashed: u64,
    /// Bytes read for that.
    pub hashed_bytes: u64,
    /// Files that are being written, to be looked at again.
    pub busy: u64,
    /// Known files that were not there.
    pub absent: u64,
    /// What could not be read, and why.
    pub unreadable: Vec<UnreadableNote>,
    /// How many of those were left out of the list.
    pub left_out: u64,
    /// How long it took.
    pub took_ms: u64,
}

impl ScanAnswer {
    /// Cuts the list to [`LIST_ITEMS_MAX`] and counts what was cut.
    pub fn bounded(mut self) -> Self {
        self.left_out += cut(&mut self.unreadable);
        self
    }
}

/// `POST /v1/delete`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeleteRequest {
    /// The item, by id or by path in the media folder.
    pub item: String,
}

/// The item is to be deleted everywhere.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DeleteAnswer {
    /// Its id.
    pub item: String,
}

/// A file that a scan could not read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UnreadableNote {
    /// Where.
    pub path: String,
    /// Why.
    pub why: String,
}

/// `GET /v1/items/{id or path}`: one item in the catalog and in every cache. Names are the seeds' column
/// names.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Show {
    /// The catalog's row; none for an item that the catalog does not have (yet).
    pub tcat_media: Option<MediaRow>,
    /// How it came in; none where the catalog kept no record.
    pub tcat_import: Option<ImportRow>,
    /// Who holds it.
    pub copies: Vec<CopyRow>,
    /// Why the catalog could not be asked, where it could not: then `tcat_media` is what this node has read of it last,
    /// without the catalog's id, and `tcat_import` is left out.
    pub catalog_away: Option<String>,
}

/// The row in `tcat_media`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaRow {
    /// The catalog.
    pub catalog_id: String,
    /// The media id.
    pub id: String,
    /// The path that the importer had: a hint, not unique.
    pub virtual_path: String,
    /// Where every cache keeps the file.
    pub cache_path: String,
    /// Media type.
    pub content_type: String,
    /// `pending`, `active`, `kill-request`, `kill-wip` or `kill-complete`.
    pub state: String,
    /// MD5 in hexadecimal.
    pub md5: String,
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 in hexadecimal, where known.
    pub blake3: Option<String>,
    /// The revision: client id, incarnation and counter, as `client@incarnation.counter`.
    pub revision: String,
    /// The object's name in the store.
    pub object_id: String,
    /// Which object in turn holds this content.
    pub generation: u32,
    /// False for an item that is not to be uploaded.
    pub upload: bool,
    /// The item of which this is a kept version.
    pub version_of: Option<String>,
}

/// The row in `tcat_import`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImportRow {
    /// The catalog.
    pub catalog_id: String,
    /// The media id.
    pub id: String,
    /// `pending-create`, `pending-upload`, `pending-repair` or `complete`.
    pub state: String,
    /// MD5 of the file when it was imported, in hexadecimal.
    pub md5: String,
    /// The root of the source path.
    pub source_server: String,
    /// Relative to `source_server`.
    pub source_path: String,
    /// When it was uploaded.
    pub upload_date: Option<String>,
    /// The name of the client that imported it.
    pub source: String,
}

/// One client's copy.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CopyRow {
    /// The client's name.
    pub client: String,
    /// Where its file is, relative to its media folder.
    pub path: String,
    /// The client's id.
    pub cached_by: String,
    /// When it was cached; none while the download is pending.
    pub cached_date: Option<String>,
    /// The dot of the entry that says so, without its client.
    pub vector_clock: StampPair,
    /// MD5 of what is held, in hexadecimal; none while nothing is.
    pub md5: Option<String>,
    /// Length in bytes.
    pub size: Option<u64>,
    /// Whether what is held equals the catalog's content.
    pub settled: bool,
}

/// `POST /v1/invite`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Invite {
    /// The one-time code, one token.
    pub code: String,
    /// When it stops being valid.
    pub expires: String,
}

/// `GET /v1/members`.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Members {
    /// Everybody in the roster, by name.
    pub members: Vec<MemberRow>,
}

/// A member of the workgroup, present or former.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct MemberRow {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `current`, `absent` (not seen beyond the horizon) or `retired`.
    pub standing: String,
    /// Whether it is the node that answers.
    pub me: bool,
    /// Whether it can be talked to now.
    pub alive: bool,
    /// How long ago it was heard, in milliseconds; none if not since this start.
    pub last_contact_ms: Option<u64>,
}

/// `POST /v1/members/retire`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetireRequest {
    /// The member, by name or by id.
    pub client: String,
}

/// `POST /v1/promote`: this node is host.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PromoteAnswer {
    /// The number of the catalog's epoch that begins with it.
    pub epoch: u64,
    /// Who was host before, if that is known.
    pub host_before: Option<String>,
    /// Whether that host could be reached, and has told its roster and been told.
    pub handed_over: bool,
}

/// The member is retired.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RetireAnswer {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
}

/// The body of every answer that is no success.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What failed and why, in one line.
    pub error: String,
    /// What to do about it.
    pub what_to_do: String,
}

fn cut<T>(list: &mut Vec<T>) -> u64 {
    let over = list.len().saturating_sub(LIST_ITEMS_MAX);
    list.truncate(LIST_ITEMS_MAX);
    over as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn the_status_has_the_names_of_the_contract_and_no_others() {
        let status = Status {
            clock: BTreeMap::from([("ab".to_owned(), (7, 9))]),
            peers: vec![PeerStatus::default()],
            tasks: vec![TaskStatus::default()],
            ..Status::default()
        };
        let value = serde_json::to_value(&status).unwrap();
        let names = "brake bytes client clock cloud_fetches host media peers settled tasks workgroup";
        assert_eq!(sorted(keys(&value)).join(" "), names);
        assert_eq!(sorted(keys(&value["client"])), ["id", "incarnation", "name"]);
        assert_eq!(sorted(keys(&value["workgroup"])), ["clock", "id", "name"]);
        assert_eq!(value["clock"], json!({"ab": [7, 9]}));
        let peer = "alive id lag last_contact_ms name refusals";
        assert_eq!(sorted(keys(&value["peers"][0])).join(" "), peer);
        let media = "conflict downloading missing parked settled total uploading";
        assert_eq!(sorted(keys(&value["media"])).join(" "), media);
        let task = "done_bytes error id item kind state total_bytes";
        assert_eq!(sorted(keys(&value["tasks"][0])).join(" "), task);
        assert_eq!(sorted(keys(&value["bytes"])), ["cloud_in", "cloud_out", "lan_in", "lan_out"]);
    }

    #[test]
    fn a_copy_has_the_seeds_names() {
        let value = serde_json::to_value(CopyRow::default()).unwrap();
        for name in ["client", "path", "cachedBy", "cachedDate", "vectorClock", "md5", "size"] {
            assert!(value.get(name).is_some(), "{name}");
        }
        let show = serde_json::to_value(Show::default()).unwrap();
        assert_eq!(sorted(keys(&show)), ["catalog_away", "copies", "tcat_import", "tcat_media"]);
    }

    #[test]
    fn an_older_reader_ignores_what_a_newer_node_adds() {
        let mut value = serde_json::to_value(Status::default()).unwrap();
        value["news"] = json!(1);
        value["media"]["news"] = json!(1);
        assert_eq!(serde_json::from_value::<Status>(value).unwrap(), Status::default());
    }

    #[test]
    fn lists_are_bounded_and_what_is_cut_is_counted() {
        let answer = WaitAnswer { absent: vec![String::new(); LIST_ITEMS_MAX + 3], ..WaitAnswer::default() };
        let answer = answer.bounded();
        assert_eq!((answer.absent.len(), answer.left_out), (LIST_ITEMS_MAX, 3));
    }

    fn sorted(mut names: Vec<&str>) -> Vec<&str> {
        names.sort_unstable();
        names
    }
}
