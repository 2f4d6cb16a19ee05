//! What `swanctl --raw` prints: `list-sa event {name {key=value list=[a b] section {…}}}`.

use serde_json::{Map, Value};

/// Parses one line into the tree behind its first brace.
pub(super) fn parse(line: &str) -> Option<Value> {
    let (_title, rest) = line.split_once('{')?;
    let mut parser = Parser { rest };
    parser.section().map(Value::Object)
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Up to the closing brace of the section whose opening one has been read.
    fn section(&mut self) -> Option<Map<String, Value>> {
        let mut section = Map::new();
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix('}') {
                self.rest = rest;
                return Some(section);
            }
            let end = self.rest.find(['=', '{'])?;
            let (key, rest) = self.rest.split_at_checked(end)?;
            let key = key.trim().to_owned();
            self.rest = rest.get(1..)?;
            let value = if rest.starts_with('{') {
                Value::Object(self.section()?)
            } else if let Some(rest) = self.rest.strip_prefix('[') {
                let (items, rest) = rest.split_once(']')?;
                self.rest = rest;
                items.split_whitespace().map(str::to_owned).collect()
            } else {
                Value::String(self.value()?.to_owned())
            };
            section.insert(key, value);
        }
    }

    /// Values may contain blanks; they end where the next `key=`, `name {` or `}` begins.
    fn value(&mut self) -> Option<&'a str> {
        let limit = self.rest.find(['=', '{', '}'])?;
        let (head, tail) = self.rest.split_at_checked(limit)?;
        let end = if tail.starts_with('}') {
            limit
        } else {
            head.trim_end().rfind(' ')?
        };
        let (value, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(value.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_comes_back() {
        let line = "list-sa event {site {uniqueid=1 state=ESTABLISHED tasks=[a b] \
                    child-sas {net-1 {name=net bytes-in=84}} remote-id=branch office 7 version=1}}";
        let tree = parse(line).unwrap();
        let site = &tree["site"];
        assert_eq!(site["state"], "ESTABLISHED");
        assert_eq!(site["tasks"][1], "b");
        assert_eq!(site["remote-id"], "branch office 7");
        assert_eq!(site["child-sas"]["net-1"]["bytes-in"], "84");
    }

    #[test]
    fn a_torn_line_is_none() {
        assert_eq!(parse("list-sa event {site {uniqueid=1"), None);
        assert_eq!(parse("no brace"), None);
    }
}
