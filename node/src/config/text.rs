//! The text of config.toml as init and join write it: every key with its meaning and its default.

use super::WorkgroupConfig;
use std::net::SocketAddr;

/// Defaults stand in it as comments; a test compares them with the real ones.
const FIRST: &str = include_str!("first.toml");

/// What init and join decide; everything else starts as its default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirstSettings<'a> {
    /// `name`.
    pub name: &'a str,
    /// `interfaces`.
    pub interfaces: &'a [String],
    /// `peers`.
    pub peers: &'a [String],
    /// `listen`.
    pub listen: SocketAddr,
}

/// The text of a new config.toml that says what `first` says.
pub fn first_text(first: &FirstSettings<'_>) -> String {
    // Line by line, so that nothing in a value can be taken for a place to fill in.
    let filled = FIRST.lines().map(|line| match line {
        "name = {name}" => format!("name = {}", quoted(first.name)),
        "interfaces = {interfaces}" => format!("interfaces = {}", quoted_list(first.interfaces)),
        "peers = {peers}" => format!("peers = {}", quoted_list(first.peers)),
        "listen = {listen}" => format!("listen = {}", quoted(&first.listen.to_string())),
        other => other.to_owned(),
    });
    filled.map(|line| line + "\n").collect()
}

/// The text of a `[[workgroup]]` to append; an error says why there can be none.
pub fn workgroup_text(group: &WorkgroupConfig) -> Result<String, String> {
    let Some(media) = group.media.to_str() else {
        return Err(format!("the path {:?} is not Unicode, which config.toml must be", group.media));
    };
    let lines = [
        String::new(),
        "[[workgroup]]".to_owned(),
        format!("id = {}", quoted(&group.id)),
        format!("name = {}", quoted(&group.name)),
        "# This node's folder with the library.".to_owned(),
        format!("media = {}", quoted(media)),
        format!("catalog = {}", quoted(&group.catalog)),
        format!("objects = {}", quoted(&group.objects)),
    ];
    Ok(lines.map(|line| line + "\n").concat())
}

/// `text` as TOML writes it.
pub(super) fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn quoted_list(list: &[String]) -> String {
    let items: Vec<String> = list.iter().map(|text| quoted(text)).collect();
    format!("[{}]", items.join(", "))
}
