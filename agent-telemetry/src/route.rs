//! Route templates (`/users/{id}`) out of paths.
//!
//! Configured patterns win. Else a segment that looks like an identifier becomes `{id}`, and so does every segment
//! of a position where more different ones were seen than a service has routes. The number of templates is bounded;
//! a path beyond the bound has none. The same paths in the same order give the same templates.

use hashbrown::HashMap;

/// Bounds of what is learned, and patterns that win.
#[derive(Debug, Clone)]
pub struct RouteConfig {
    /// Patterns like `/users/{id}`; `{rest*}` at the end stands for one segment or more. The first that fits wins.
    pub patterns: Vec<String>,
    /// Different segments at a position before they all become `{id}`.
    pub max_children: usize,
    /// Templates per service.
    pub max_templates: usize,
}

impl Default for RouteConfig {
    fn default() -> Self {
        RouteConfig {
            patterns: Vec::new(),
            max_children: 100,
            max_templates: 500,
        }
    }
}

impl RouteConfig {
    /// Whether the patterns are what they should be.
    ///
    /// # Errors
    /// The first that is none.
    pub fn check(&self) -> Result<(), PatternError> {
        Routes::new(self).map(drop)
    }
}

/// A pattern that is none: see its text.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("route pattern {pattern:?}: {problem}")]
pub struct PatternError {
    /// The pattern.
    pub pattern: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

#[derive(Debug, PartialEq)]
enum Part {
    Literal(Box<str>),
    Segment,
    Rest,
}

#[derive(Debug)]
struct Pattern {
    text: Box<str>,
    parts: Vec<Part>,
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Pattern, PatternError> {
        let fail = |problem| PatternError {
            pattern: pattern.to_owned(),
            problem,
        };
        let inner = pattern.strip_prefix('/').ok_or(fail("must begin with /"))?;
        let mut parts = Vec::new();
        for segment in inner.split('/') {
            if parts.last() == Some(&Part::Rest) {
                return Err(fail("nothing may follow {name*}"));
            }
            let name = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            parts.push(match name {
                Some(name) if name.ends_with('*') => Part::Rest,
                Some("") => return Err(fail("{} has no name")),
                Some(_) => Part::Segment,
                None if segment.contains(['{', '}']) => {
                    return Err(fail("a placeholder must be a whole segment"));
                }
                None => Part::Literal(segment.into()),
            });
        }
        Ok(Pattern {
            text: pattern.into(),
            parts,
        })
    }

    fn fits(&self, path: &str) -> bool {
        let Some(inner) = path.strip_prefix('/') else {
            return false;
        };
        let mut segments = inner.split('/');
        for part in &self.parts {
            let fits = match (part, segments.next()) {
                (Part::Rest, Some(_)) => return true,
                (Part::Literal(literal), Some(segment)) => **literal == *segment,
                (Part::Segment, Some(segment)) => !segment.is_empty(),
                (_, None) => false,
            };
            if !fits {
                return false;
            }
        }
        segments.next().is_none()
    }
}

/// Where a path leads in what was learned of a service.
#[derive(Default)]
struct Node {
    children: HashMap<Box<str>, u32>,
    placeholder: Option<u32>,
    /// Too many children were seen: all are one.
    collapsed: bool,
    /// A template ends here.
    ends: bool,
}

/// What was learned of a service.
struct Tree {
    nodes: Vec<Node>,
    templates: usize,
}

/// Whose routes: a resource, and for a client the server's port.
pub(crate) type Scope = (u64, Option<u16>);

/// Services whose routes are remembered; with one more, all are learned anew.
const SCOPES: usize = 1024;

/// Segments of a template at most.
const DEPTH: usize = 16;

/// Bytes of a literal segment at most.
const LITERAL: usize = 64;

/// What stands for an identifier.
pub(crate) const PLACEHOLDER: &str = "{id}";

/// Templates by service.
pub(crate) struct Routes {
    patterns: Vec<Pattern>,
    max_children: usize,
    max_templates: usize,
    trees: HashMap<Scope, Tree>,
}

impl Routes {
    /// Nothing learned yet.
    ///
    /// # Errors
    /// A pattern that is none.
    pub(crate) fn new(config: &RouteConfig) -> Result<Routes, PatternError> {
        Ok(Routes {
            patterns: config
                .patterns
                .iter()
                .map(|pattern| Pattern::parse(pattern))
                .collect::<Result<_, _>>()?,
            max_children: config.max_children,
            max_templates: config.max_templates,
            trees: HashMap::new(),
        })
    }

    /// Writes the template of `path` to `template` and says whether there is one. With `learn` unset, only a
    /// template that is known already.
    pub(crate) fn template(&mut self, scope: Scope, path: &str, learn: bool, template: &mut String) -> bool {
        template.clear();
        let path = path.split_once(';').map_or(path, |(path, _)| path);
        if let Some(pattern) = self.patterns.iter().find(|pattern| pattern.fits(path)) {
            template.push_str(&pattern.text);
            return true;
        }
        let Some(inner) = path.strip_prefix('/') else {
            return false;
        };
        if inner.bytes().filter(|&b| b == b'/').count() >= DEPTH {
            return false;
        }
        if !self.trees.contains_key(&scope) {
            if self.trees.len() >= SCOPES {
                self.trees.clear();
            }
            self.trees.insert(scope, Tree::new());
        }
        let Some(tree) = self.trees.get_mut(&scope) else {
            return false;
        };
        let learn = learn && tree.templates < self.max_templates;
        let mut at = 0;
        for segment in inner.split('/') {
            template.push('/');
            let node = &tree.nodes[at as usize];
            // What looks like an identifier is never a child, so that there is no need to look at a child.
            let child = node.children.get(segment).copied();
            let identifies =
                child.is_none() && !segment.is_empty() && (node.collapsed || looks_like_identifier(segment));
            let is_full = !segment.is_empty() && node.children.len() >= self.max_children;
            let known = if identifies { node.placeholder } else { child };
            let next = match known {
                Some(next) => Some(next),
                None if !learn => None,
                None if identifies => Some(tree.placeholder(at)),
                None if is_full => {
                    tree.collapse(at);
                    Some(tree.placeholder(at))
                }
                None => Some(tree.child(at, segment)),
            };
            let is_placeholder = identifies || known.is_none() && is_full;
            template.push_str(if is_placeholder { PLACEHOLDER } else { segment });
            let Some(next) = next else {
                template.clear();
                return false;
            };
            at = next;
        }
        let node = &mut tree.nodes[at as usize];
        if !node.ends {
            if !learn {
                template.clear();
                return false;
            }
            node.ends = true;
            tree.templates += 1;
        }
        true
    }
}

impl Tree {
    fn new() -> Tree {
        Tree {
            nodes: vec![Node::default()],
            templates: 0,
        }
    }

    fn add(&mut self) -> u32 {
        self.nodes.push(Node::default());
        // At most one path of `DEPTH` nodes for each template.
        self.nodes.len() as u32 - 1
    }

    fn placeholder(&mut self, at: u32) -> u32 {
        match self.nodes[at as usize].placeholder {
            Some(known) => known,
            None => {
                let new = self.add();
                self.nodes[at as usize].placeholder = Some(new);
                new
            }
        }
    }

    fn child(&mut self, at: u32, segment: &str) -> u32 {
        let new = self.add();
        self.nodes[at as usize].children.insert(segment.into(), new);
        new
    }

    /// Makes all children of `at` one. Their nodes stay unused, their templates count on: the bound holds for all
    /// that were ever reported.
    fn collapse(&mut self, at: u32) {
        let node = &mut self.nodes[at as usize];
        node.children = HashMap::new();
        node.collapsed = true;
    }
}

/// Whether a segment is made for one thing among many: a number, a UUID, a hash, a token, a date, an address.
pub(crate) fn looks_like_identifier(segment: &str) -> bool {
    let stem = match segment.rsplit_once('.') {
        Some((stem, suffix))
            if !stem.is_empty() && suffix.len() <= 5 && suffix.bytes().all(|b| b.is_ascii_alphabetic()) =>
        {
            stem
        }
        _ => segment,
    };
    let bytes = stem.as_bytes();
    if bytes.iter().all(u8::is_ascii_digit) {
        return true;
    }
    if segment.len() > LITERAL || segment.contains(['@', '%', ',', '=']) {
        return true;
    }
    let count = |is: fn(&u8) -> bool| bytes.iter().filter(|b| is(b)).count();
    let digits = count(u8::is_ascii_digit);
    if digits == 0 {
        return false;
    }
    // Numbers, dates, times, versions with dots, phone numbers, address literals: no letters to speak of.
    let letters = count(u8::is_ascii_alphabetic);
    if letters == 0 {
        return true;
    }
    let is_separator = |b: &u8| matches!(b, b'-' | b'_' | b'.' | b':' | b'~' | b'+');
    let hex = bytes.iter().all(|b| b.is_ascii_hexdigit() || is_separator(b));
    if hex && digits + letters >= 8 {
        return true;
    }
    // An ISO 8601 date or time has at most T and Z.
    if digits >= 6 && letters <= 2 {
        return true;
    }
    let turn = |pair: &&[u8]| {
        pair.iter().all(u8::is_ascii_alphanumeric) && pair[0].is_ascii_digit() != pair[1].is_ascii_digit()
    };
    let turns = bytes.windows(2).filter(turn).count();
    let upper = count(u8::is_ascii_uppercase);
    // Tokens mix digits and letters, or letters of both cases, more than words do.
    let mixed = turns >= 4 || (turns >= 2 && upper > 0 && upper < letters && bytes.len() >= 16);
    bytes.len() >= 10 && digits >= 3 && mixed || digits >= 4 && digits * 2 >= bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: Scope = (1, None);

    fn template(routes: &mut Routes, path: &str) -> Option<String> {
        let mut out = String::new();
        routes.template(SCOPE, path, true, &mut out).then_some(out)
    }

    fn fresh() -> Routes {
        Routes::new(&RouteConfig::default()).unwrap()
    }

    #[test]
    fn identifiers_of_common_kinds() {
        let mut routes = fresh();
        for (path, expected) in [
            ("/", "/"),
            ("/users", "/users"),
            ("/users/", "/users/"),
            ("/users/42", "/users/{id}"),
            ("/users/42/orders/7", "/users/{id}/orders/{id}"),
            ("/users/-1", "/users/{id}"),
            ("/u/f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "/u/{id}"),
            ("/u/F81D4FAE7DEC11D0A76500A0C91E6BF6", "/u/{id}"),
            (
                "/commits/9fceb02d0ae598e95dc970b74767f19372d61af8",
                "/commits/{id}",
            ),
            ("/commits/9fceb02", "/commits/9fceb02"),
            ("/m/507f1f77bcf86cd799439011", "/m/{id}"),
            ("/ulid/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/ulid/{id}"),
            ("/cus/cus_9s6XKzkNRiz8i3", "/cus/{id}"),
            ("/t/dGhpcyBpcyBhIHRva2Vu", "/t/dGhpcyBpcyBhIHRva2Vu"),
            ("/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "/t/{id}"),
            ("/days/2024-01-31", "/days/{id}"),
            ("/days/2024-01-31T10:00:00Z", "/days/{id}"),
            ("/by/someone@example.com", "/by/{id}"),
            ("/by/someone%40example.com", "/by/{id}"),
            ("/q/a%20b", "/q/{id}"),
            ("/img/12345.png", "/img/{id}"),
            ("/static/app.js", "/static/app.js"),
            ("/static/jquery-3.7.1.min.js", "/static/jquery-3.7.1.min.js"),
            ("/api/v1/items", "/api/v1/items"),
            ("/api/v2beta1/items", "/api/v2beta1/items"),
            ("/oauth2/token", "/oauth2/token"),
            ("/s3/x", "/s3/x"),
            ("/utf8", "/utf8"),
            ("/user1234", "/{id}"),
            ("/x;jsessionid=1234/y", "/x"),
        ] {
            assert_eq!(template(&mut routes, path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn no_template_without_a_path() {
        let mut routes = fresh();
        for path in ["", "*", "example.com:443"] {
            assert_eq!(template(&mut routes, path), None, "{path}");
        }
        assert_eq!(template(&mut routes, &"/a".repeat(DEPTH + 1)), None);
        assert!(template(&mut routes, &"/a".repeat(DEPTH)).is_some());
    }

    #[test]
    fn configured_patterns_win() {
        let config = RouteConfig {
            patterns: vec![
                "/users/{name}".into(),
                "/files/{path*}".into(),
                "/users/me".into(),
            ],
            ..RouteConfig::default()
        };
        let mut routes = Routes::new(&config).unwrap();
        for (path, expected) in [
            ("/users/ann", "/users/{name}"),
            ("/users/me", "/users/{name}"),
            ("/users/7/x", "/users/{id}/x"),
            ("/files/a/b/c", "/files/{path*}"),
            ("/files", "/files"),
        ] {
            assert_eq!(template(&mut routes, path).as_deref(), Some(expected), "{path}");
        }
        for bad in ["users", "/a/{}", "/a/x{id}", "/{a*}/b"] {
            let config = RouteConfig {
                patterns: vec![bad.into()],
                ..RouteConfig::default()
            };
            assert!(Routes::new(&config).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_position_with_too_many_names_is_an_identifier() {
        let mut routes = fresh();
        let name = |n: usize| {
            format!(
                "/people/{}",
                "abcdefghij"
                    .repeat(2)
                    .chars()
                    .skip(n % 10)
                    .take(2 + n / 10)
                    .collect::<String>()
            )
        };
        let limit = RouteConfig::default().max_children;
        for n in 0..limit {
            assert_eq!(template(&mut routes, &name(n)), Some(name(n)));
        }
        assert_eq!(
            template(&mut routes, &name(limit)).as_deref(),
            Some("/people/{id}")
        );
        assert_eq!(template(&mut routes, &name(0)).as_deref(), Some("/people/{id}"));
        assert_eq!(template(&mut routes, "/people").as_deref(), Some("/people"));
    }

    #[test]
    fn what_was_not_found_teaches_nothing() {
        let mut routes = fresh();
        let mut out = String::new();
        assert!(!routes.template(SCOPE, "/wp-login.php", false, &mut out));
        assert_eq!(out, "");
        assert!(routes.template(SCOPE, "/users/1", true, &mut out));
        assert!(routes.template(SCOPE, "/users/2", false, &mut out));
        assert_eq!(out, "/users/{id}");
        assert!(
            !routes.template(SCOPE, "/users", false, &mut out),
            "only part of a known one"
        );
    }

    #[test]
    fn templates_and_nodes_are_bounded() {
        let config = RouteConfig {
            max_templates: 50,
            ..RouteConfig::default()
        };
        let mut routes = Routes::new(&config).unwrap();
        let word = |mut n: usize| {
            let mut word = String::new();
            for _ in 0..4 {
                word.push(char::from(b'a' + (n % 26) as u8));
                n /= 26;
            }
            word
        };
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..20_000 {
            let path = format!("/{}/{}/{}", word(n % 40), word(n % 97), word(n));
            seen.extend(template(&mut routes, &path));
        }
        assert!(seen.len() <= 50, "{}", seen.len());
        assert!(routes.trees[&SCOPE].nodes.len() <= 1 + 50 * DEPTH);
        for n in 0..3 * SCOPES as u64 {
            routes.template((n, None), "/a", true, &mut String::new());
        }
        assert!(routes.trees.len() <= SCOPES);
    }
}
