//! The name that a node gets when its person gives none: that of the machine.

use crate::config::{NAME_CHARS_MAX, check_name};
use std::fs;
use std::process::{Command, Stdio};
use tcat_engine::ids::ClientId;

/// The machine's name, or one from the client's key where the machine has no usable one.
pub fn default_client_name(client: &ClientId) -> String {
    let told =
        ["/proc/sys/kernel/hostname", "/etc/hostname"].iter().find_map(|path| fs::read_to_string(path).ok());
    let told = told.or_else(asked).unwrap_or_default();
    usable(&told).unwrap_or_else(|| format!("client-{}", client.short()))
}

/// macOS and Windows keep the name in no file, and have this program.
fn asked() -> Option<String> {
    let said = Command::new("hostname").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    said.status.success().then(|| String::from_utf8_lossy(&said.stdout).into_owned())
}

/// The first label of a host name, where that says anything of the machine.
fn usable(host: &str) -> Option<String> {
    let label: String = host.trim().split('.').next()?.chars().take(NAME_CHARS_MAX).collect();
    (check_name(&label).is_ok() && label != "localhost").then_some(label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_called_by_the_first_label_of_its_name() {
        assert_eq!(usable("studio-2.example.org\n").as_deref(), Some("studio-2"));
        assert_eq!(usable(&"x".repeat(300)).map(|name| name.len()), Some(NAME_CHARS_MAX));
        for nothing in ["", "\n", "localhost.localdomain", "a\u{7}b"] {
            assert_eq!(usable(nothing), None, "{nothing:?}");
        }
        assert!(check_name(&default_client_name(&ClientId([1; 32]))).is_ok());
    }
}
