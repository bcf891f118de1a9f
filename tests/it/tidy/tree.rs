//! The project's own sources as text, for the tests that check them. Never writes.

use std::fs;
use std::path::Path;

/// One file: its path from the project's root, with forward slashes, and its text.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
}

impl SourceFile {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The file without its closing `#[cfg(test)] mod tests`, to which the rules of tests apply.
    pub(crate) fn production(&self) -> &str {
        if self.path.ends_with("/tests.rs") {
            return "";
        }
        let mut at = 0;
        let mut lines = self.text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            let next = lines.peek().map_or("", |next| next.trim_start());
            if line.trim() == "#[cfg(test)]" && next.starts_with("mod tests") {
                return &self.text[..at];
            }
            at += line.len();
        }
        &self.text
    }

    /// What [`SourceFile::production`] leaves out.
    pub(crate) fn tests(&self) -> &str {
        &self.text[self.production().len()..]
    }
}

/// The project's root directory.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under `folders`, in order of path.
pub(crate) fn sources(folders: &[&str]) -> Vec<SourceFile> {
    folders
        .iter()
        .flat_map(|folder| files(folder))
        .filter(|path| Path::new(path).extension().is_some_and(|end| end == "rs"))
        .map(|path| SourceFile::new(&path, &read(&path)))
        .collect()
}

/// Every file under `folder`, in order of path; none if there is no such directory.
pub(crate) fn files(folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root().join(folder)) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.expect("a folder that can be opened can be listed");
        let name = entry
            .file_name()
            .into_string()
            .expect("file names are UTF-8");
        let path = if folder.is_empty() {
            name
        } else {
            format!("{folder}/{name}")
        };
        if entry
            .file_type()
            .expect("a listed entry has a type")
            .is_dir()
        {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The text of a file of the project; invalid UTF-8 is replaced.
pub(crate) fn read(path: &str) -> String {
    let bytes = fs::read(root().join(path)).unwrap_or_else(|fault| panic!("{path}: {fault}"));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Rust text with comments and literals blanked, so that only code is left.
pub(crate) fn code(text: &str) -> String {
    split(text).0
}

/// The literals of Rust text, without what stands in comments.
pub(crate) fn literals(text: &str) -> Vec<&str> {
    let quotes = ['"', '\''];
    let mut literals = split(text).1;
    for literal in &mut literals {
        let (_, opened) = literal.split_once(quotes).unwrap_or_default();
        let closed = opened.trim_end_matches('#');
        *literal = closed.strip_suffix(quotes).unwrap_or(closed);
    }
    literals
}

fn split(text: &str) -> (String, Vec<&str>) {
    let mut code = String::with_capacity(text.len());
    let mut literals = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let inside_word = code.ends_with(|last: char| last.is_alphanumeric() || last == '_');
        let comment = comment(rest);
        let literal = comment.is_none().then(|| literal(rest, inside_word));
        let literal = literal.flatten();
        literals.extend(literal.map(|length| &rest[..length]));
        if let Some(length) = comment.or(literal) {
            code.push(' ');
            code.extend(rest[..length].chars().filter(|skipped| *skipped == '\n'));
            rest = &rest[length..];
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    (code, literals)
}

fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    let inner = rest.strip_prefix("/*")?;
    Some(inner.find("*/").map_or(rest.len(), |end| end + 4))
}

fn literal(rest: &str, inside_word: bool) -> Option<usize> {
    if let Some(inner) = rest.strip_prefix('\'') {
        // A quote without its partner two characters on is a lifetime.
        let mut inner = inner.char_indices();
        let (_, first) = inner.next()?;
        let (second_at, second) = inner.next()?;
        return match first {
            '\\' => rest[3..].find('\'').map(|end| end + 4),
            _ if second == '\'' => Some(second_at + 2),
            _ => None,
        };
    }
    if let Some(inner) = rest.strip_prefix('"') {
        let mut escaped = false;
        let end = inner.find(|next: char| {
            let ends = next == '"' && !escaped;
            escaped = next == '\\' && !escaped;
            ends
        });
        return Some(end.map_or(rest.len(), |end| end + 2));
    }
    if inside_word {
        return None;
    }
    let hashed = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let inner = hashed.trim_start_matches('#');
    let fence = &hashed[..hashed.len() - inner.len()];
    let inner = inner.strip_prefix('"')?;
    let close = format!("\"{fence}");
    let end = inner
        .find(&close)
        .map_or(inner.len(), |end| end + close.len());
    Some(rest.len() - inner.len() + end)
}

#[test]
fn comments_and_literals_are_not_code() {
    let text = "a(); // crate::x\n/* crate::y */ b(\"crate::\\\"z\", '\"', '\\'', r#\"crate::\"q\"#);\nfn c<'a>(d: &'a str) {}";
    let code = code(text);
    assert!(!code.contains("crate"), "{code}");
    assert!(
        code.contains("a();") && code.contains("b(") && code.contains("fn c<'a>(d: &'a str) {}")
    );
    assert_eq!(code.lines().count(), 3);
    let literals = literals(text);
    assert_eq!(literals[0], "crate::\\\"z");
    assert_eq!(literals.last(), Some(&"crate::\"q"));
}

#[test]
fn a_file_ends_where_its_tests_begin() {
    let file = SourceFile::new("src/x.rs", "fn a() {}\n\n#[cfg(test)]\nmod tests {\n}\n");
    assert_eq!(file.production(), "fn a() {}\n\n");
    assert!(file.tests().starts_with("#[cfg(test)]"));
}
