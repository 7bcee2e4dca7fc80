//! What the server keeps for a session: prepared statements and portals, as far as its answers prove them.

use super::sql::Script;
use hashbrown::HashMap;
use std::sync::Arc;

/// Memory for named statements: of 100,000 that are as short as most, or of a thousand that are as long as any.
const STATEMENTS: usize = 16 << 20;

/// Portals that are kept.
const PORTALS: usize = 256;

/// Longest name of a statement that is kept (`NAMEDATALEN`: longer ones are cut off by the server).
const NAME: usize = 63;

/// A prepared statement, as far as known.
#[derive(Debug, Clone, Default)]
pub(super) struct Prepared {
    pub(super) name: Option<Arc<str>>,
    pub(super) script: Option<Arc<Script>>,
}

impl Prepared {
    /// Whether it is the statement `name`; the unnamed one has none.
    pub(super) fn is_named(&self, name: &[u8]) -> bool {
        self.name.as_deref().unwrap_or_default().as_bytes() == name
    }

    /// A statement that the session does not hold.
    pub(super) fn new(name: &[u8], script: Option<Arc<Script>>) -> Prepared {
        let name = std::str::from_utf8(name).ok().filter(|name| !name.is_empty());
        Prepared {
            name: name.map(Arc::from),
            script,
        }
    }
}

/// A portal, from Bind on.
#[derive(Debug, Clone)]
pub(super) struct Portal {
    pub(super) name: Box<[u8]>,
    pub(super) prepared: Prepared,
    /// First byte of the Bind, or of the Parse that was for it; `None` once it has run to its end.
    pub(super) start: Option<u64>,
    /// Rows so far and the end of the last Execute, where it is suspended.
    pub(super) suspended: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
pub(super) struct Session {
    pub(super) user: Option<Box<str>>,
    pub(super) database: Option<Box<str>>,
    /// `standard_conforming_strings` is on.
    pub(super) plain_backslash: bool,
    statements: HashMap<Arc<str>, Option<Arc<Script>>>,
    /// Memory that they take.
    memory: usize,
    unnamed: Option<Arc<Script>>,
    portals: Vec<Portal>,
    /// There may be portals that were not seen to be made.
    unseen_portals: bool,
}

/// Memory that a named statement takes.
fn memory(name: &str, script: Option<&Arc<Script>>) -> usize {
    const SLOT: usize = 2 * size_of::<(Arc<str>, Option<Arc<Script>>)>();
    SLOT + name.len() + script.map_or(0, |script| script.memory())
}

/// When something began that was not seen to begin.
pub(super) const UNSEEN: u64 = 0;

impl Session {
    /// A statement is prepared. False where there is no room.
    pub(super) fn prepare(&mut self, name: &[u8], script: Option<Arc<Script>>) -> (Prepared, bool) {
        if name.is_empty() {
            self.unnamed = script.clone();
            return (Prepared { name: None, script }, true);
        }
        let mut room = true;
        let name = std::str::from_utf8(name).ok().filter(|name| name.len() <= NAME);
        let name = name.map(|name| {
            self.remove(name);
            let taken = memory(name, script.as_ref());
            room = self.memory + taken <= STATEMENTS;
            let name: Arc<str> = name.into();
            if room {
                self.memory += taken;
                self.statements.insert(name.clone(), script.clone());
            }
            name
        });
        (Prepared { name, script }, room)
    }

    /// The statement of that name. One that is not known is remembered, so that its name is allocated once.
    pub(super) fn prepared(&mut self, name: &[u8]) -> Prepared {
        if name.is_empty() {
            return Prepared {
                name: None,
                script: self.unnamed.clone(),
            };
        }
        let found = std::str::from_utf8(name).ok();
        match found.and_then(|name| self.statements.get_key_value(name)) {
            Some((name, script)) => Prepared {
                name: Some(name.clone()),
                script: script.clone(),
            },
            None => self.prepare(name, None).0,
        }
    }

    pub(super) fn close_statement(&mut self, name: &[u8]) {
        match std::str::from_utf8(name) {
            Ok("") => self.unnamed = None,
            Ok(name) => self.remove(name),
            Err(_) => {}
        }
    }

    fn remove(&mut self, name: &str) {
        if let Some((name, script)) = self.statements.remove_entry(name) {
            self.memory -= memory(&name, script.as_ref());
        }
    }

    pub(super) fn close_statements(&mut self) {
        (self.statements, self.memory) = (HashMap::default(), 0);
        self.unnamed = None;
    }

    /// A portal is made; the one of that name before it goes, and is returned.
    pub(super) fn open_portal(&mut self, name: &[u8], prepared: Prepared, start: u64) -> Option<Portal> {
        let old = self.close_portal(name);
        if self.portals.len() < PORTALS {
            self.portals.push(Portal {
                name: name.into(),
                prepared,
                start: Some(start),
                suspended: None,
            });
        } else {
            self.unseen_portals = true;
        }
        old
    }

    /// Where the transaction begins whose first Execute on a portal that is not known began at `start`: one that
    /// was made by SQL has no Bind.
    pub(super) fn unknown_portal(&self, start: u64) -> u64 {
        if self.unseen_portals { UNSEEN } else { start }
    }

    /// No portal is left, or none is known.
    pub(super) fn set_unseen_portals(&mut self, unseen: bool) {
        self.unseen_portals = unseen;
    }

    pub(super) fn portal(&mut self, name: &[u8]) -> Option<&mut Portal> {
        self.portals.iter_mut().find(|portal| *portal.name == *name)
    }

    pub(super) fn close_portal(&mut self, name: &[u8]) -> Option<Portal> {
        let at = self.portals.iter().position(|portal| *portal.name == *name)?;
        Some(self.portals.swap_remove(at))
    }

    /// Any of the portals, which is no more.
    pub(super) fn pop_portal(&mut self) -> Option<Portal> {
        self.portals.pop()
    }

    pub(super) fn suspended(&self) -> u64 {
        self.portals
            .iter()
            .filter(|portal| portal.suspended.is_some())
            .count() as u64
    }
}
