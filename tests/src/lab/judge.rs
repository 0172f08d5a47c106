//! The end of every run: the verifier, another program, compares what is there with what the scenario saved.
//!
//! Holds always: the laboratory tells it only what persons did and where to look, in JSON, and believes what it finds.
//! [`Saved`] is that JSON; the verifier's own rules are in `tests/src/bin/tcat-verify.rs`.

use serde::{Deserialize, Serialize};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the verifier is told.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Every media folder of the workgroup that must be equal now, by its host's name.
    pub places: Vec<(String, PathBuf)>,
    /// Media folders of hosts that are away: they are searched for contents, not compared.
    pub away: Vec<(String, PathBuf)>,
    /// The catalog's database; none: no workgroup was made.
    pub catalog: PathBuf,
    /// The folder of objects.
    pub objects: PathBuf,
    /// Every content that a person saved.
    pub contents: Vec<Content>,
}

/// A content that a person saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// Where, below the media folder.
    pub path: String,
    /// Its MD5 in hexadecimal digits.
    pub md5: String,
    /// On which host.
    pub host: String,
}

/// Runs the verifier; what it prints if all is well, else the same as an error.
pub fn judge(verifier: &Path, saved: &Saved) -> Result<String, String> {
    let failed = |why: &dyn std::fmt::Display| format!("{}: {why}", verifier.display());
    let told = serde_json::to_vec(saved).map_err(|why| failed(&why))?;
    let mut command = Command::new(verifier);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|why| failed(&why))?;
    let pipe = child.stdin.take();
    pipe.map_or(Ok(()), |mut pipe| pipe.write_all(&told)).map_err(|why| failed(&why))?;
    let ended = child.wait_with_output().map_err(|why| failed(&why))?;
    let said = String::from_utf8_lossy(&ended.stdout).trim().to_owned();
    if ended.status.success() {
        return Ok(said);
    }
    Err(format!("the verifier found:\n{said}{}", String::from_utf8_lossy(&ended.stderr)))
}
