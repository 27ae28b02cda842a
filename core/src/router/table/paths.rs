//! The paths in use, as a trie of names.

use std::collections::HashMap;

/// Names a path in use; the paths of a table are numbered from 0.
pub(super) type PathId = usize;
/// Names a place in the trie; the top is [`Paths::TOP`].
pub(super) type NodeId = usize;

/// A trie of all paths that patterns look at.
#[derive(Debug)]
pub(super) struct Paths {
    nodes: Vec<Node>,
    count: usize,
}

#[derive(Debug)]
struct Node {
    children: HashMap<Box<str>, NodeId>,
    /// How many names lead here.
    depth: usize,
    path: Option<PathId>,
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
            children: HashMap::new(),
            depth: 0,
            path: None,
        };
        Self {
            nodes: vec![top],
            count: 0,
        }
    }

    /// The number of a path, which is in use from now on.
    pub(super) fn insert(&mut self, path: &[Box<str>]) -> PathId {
        let mut at = Self::TOP;
        for name in path {
            at = match self.nodes[at].children.get(name) {
                Some(child) => *child,
                None => self.add(at, name.clone()),
            };
        }
        *self.nodes[at].path.get_or_insert_with(|| {
            self.count += 1;
            self.count - 1
        })
    }

    /// The number of a path, where it is in use.
    pub(super) fn find(&self, path: &[Box<str>]) -> Option<PathId> {
        let mut names = path.iter();
        let end = names.try_fold(Self::TOP, |at, name| self.nodes[at].children.get(name).copied());
        self.path(end?)
    }

    /// How many paths are in use.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How many places there are.
    pub(super) fn size(&self) -> usize {
        self.nodes.len()
    }

    /// The path that ends at `node`, where one does.
    pub(super) fn path(&self, node: NodeId) -> Option<PathId> {
        self.nodes[node].path
    }

    /// How many names lead to `node`.
    pub(super) fn depth(&self, node: NodeId) -> usize {
        self.nodes[node].depth
    }

    /// How many names lead on from `node`.
    pub(super) fn names(&self, node: NodeId) -> usize {
        self.nodes[node].children.len()
    }

    /// Where `key` leads from `node`.
    pub(super) fn lead(&self, node: NodeId, key: &str) -> Lead {
        match self.nodes[node].children.get(key) {
            Some(child) => Lead::Child(*child),
            None if key.contains('.') => {
                let names = &mut key.split('.');
                let end = names.try_fold(node, |at, name| self.nodes[at].children.get(name).copied());
                end.map_or(Lead::Aside, Lead::Dotted)
            }
            None => Lead::Aside,
        }
    }

    fn add(&mut self, parent: NodeId, name: Box<str>) -> NodeId {
        let child = self.nodes.len();
        let depth = self.nodes[parent].depth + 1;
        self.nodes[parent].children.insert(name, child);
        self.nodes.push(Node {
            children: HashMap::new(),
            depth,
            path: None,
        });
        child
    }
}
