//! The paths in use, as a trie of names.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;

/// Names a path in use; the paths of a table are numbered from 0.
pub(super) type PathId = u32;
/// Names a place in the trie; the top is [`Paths::TOP`].
pub(super) type NodeId = u32;

/// A trie of all paths that patterns look at.
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
    /// Where each path ends.
    ends: Vec<NodeId>,
}

#[derive(Debug)]
struct Node {
    /// The name that leads here, and from where.
    name: Arc<str>,
    parent: NodeId,
    /// How many names lead here.
    depth: u32,
    path: Option<PathId>,
    names: Option<Box<Names>>,
}

/// The names that lead on from a place.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// By its first byte, whether a key can lead on, where it is not empty: most keys of an event do not.
    firsts: [u64; 4],
    nodes: HashMap<Arc<str>, NodeId, FixedState>,
}

/// Where a key of an event leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// Nowhere that a pattern looks.
    Aside,
    /// One name on.
    Child(NodeId),
    /// Several names on, since the key has dots.
    Dotted(NodeId),
}

impl Paths {
    /// The top of an event.
    pub(super) const TOP: NodeId = 0;

    pub(super) fn new() -> Self {
        let top = Node {
            name: "".into(),
            parent: Self::TOP,
            depth: 0,
            path: None,
            names: None,
        };
        Self {
            nodes: vec![top],
            ends: Vec::new(),
        }
    }

    /// The number of a path, which is in use from now on.
    pub(super) fn insert(&mut self, path: &[Box<str>]) -> PathId {
        let mut at = Self::TOP;
        for name in path {
            at = match self.child(at, name) {
                Some(child) => child,
                None => self.add(at, name),
            };
        }
        let next = number(self.ends.len());
        let path = *self.nodes[at as usize].path.get_or_insert(next);
        if path == next {
            self.ends.push(at);
        }
        path
    }

    /// The number of a path, where it is in use.
    pub(super) fn find(&self, path: &[Box<str>]) -> Option<PathId> {
        let mut names = path.iter();
        self.path(names.try_fold(Self::TOP, |at, name| self.child(at, name))?)
    }

    /// The names of a path.
    pub(super) fn spell(&self, path: PathId) -> Arc<[Box<str>]> {
        let mut names = Vec::new();
        let mut at = self.ends[path as usize];
        while at != Self::TOP {
            let node = &self.nodes[at as usize];
            names.push(Box::from(&*node.name));
            at = node.parent;
        }
        names.into_iter().rev().collect()
    }

    /// How many paths are in use.
    pub(super) fn count(&self) -> usize {
        self.ends.len()
    }

    /// How many places there are.
    pub(super) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The path that ends at `node`, where one does.
    pub(super) fn path(&self, node: NodeId) -> Option<PathId> {
        self.nodes[node as usize].path
    }

    /// How many names lead to `node`.
    pub(super) fn depth(&self, node: NodeId) -> u32 {
        self.nodes[node as usize].depth
    }

    /// The names that lead on from `node`, where any do.
    pub(super) fn names(&self, node: NodeId) -> Option<&Names> {
        self.nodes[node as usize].names.as_deref()
    }

    /// Where a key with dots leads from `node`, by way of the names between them.
    fn follow(&self, node: NodeId, key: &str) -> Option<NodeId> {
        key.split('.').try_fold(node, |at, name| self.child(at, name))
    }

    fn child(&self, node: NodeId, name: &str) -> Option<NodeId> {
        self.names(node)?.nodes.get(name).copied()
    }

    fn add(&mut self, parent: NodeId, name: &str) -> NodeId {
        let child = number(self.nodes.len());
        let name: Arc<str> = name.into();
        let above = &mut self.nodes[parent as usize];
        let depth = above.depth + 1;
        above.names.get_or_insert_default().add(&name, child);
        self.nodes.push(Node {
            name,
            parent,
            depth,
            path: None,
            names: None,
        });
        child
    }
}

impl Names {
    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.nodes.len()
    }

    /// Whether a key that begins with this byte can lead anywhere.
    pub(super) fn can_lead(&self, first: u8) -> bool {
        self.firsts[usize::from(first) / 64] & 1 << (first % 64) != 0
    }

    /// Where `key` leads from `node`, whose names these are.
    pub(super) fn lead(&self, paths: &Paths, node: NodeId, key: &str) -> Lead {
        match self.nodes.get(key) {
            Some(child) => Lead::Child(*child),
            None if key.contains('.') => paths.follow(node, key).map_or(Lead::Aside, Lead::Dotted),
            None => Lead::Aside,
        }
    }

    fn add(&mut self, name: &Arc<str>, node: NodeId) {
        // The empty name may be what stands before the dot of a key.
        let first = name.bytes().next().unwrap_or(b'.');
        self.firsts[usize::from(first) / 64] |= 1 << (first % 64);
        self.nodes.insert(Arc::clone(name), node);
    }
}

/// A number for the next of `count` things.
fn number(count: usize) -> u32 {
    u32::try_from(count).expect("rule files have no four thousand million names")
}
