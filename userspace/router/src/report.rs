//! What the controller has to know of this router.

use nightgate_model::{control::RouterMessage, entity::Terminator, replica::LinkReport};

/// Links and terminators, as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    pub(crate) links: Vec<LinkReport>,
    pub(crate) terminators: Vec<Terminator>,
}

impl Report {
    /// What to tell a controller that knows `before`.
    pub(crate) fn changes(&self, before: &Self) -> Vec<RouterMessage> {
        let mut messages = Vec::new();
        let gone = |old: &&Terminator| self.terminators.iter().all(|new| new.id != old.id);
        for old in before.terminators.iter().filter(gone) {
            messages.push(RouterMessage::TerminatorRemoved { id: old.id.clone() });
        }
        for new in self.terminators.iter().filter(|new| !before.terminators.contains(new)) {
            messages.push(RouterMessage::TerminatorAdded(new.clone()));
        }
        if self.links != before.links {
            messages.push(RouterMessage::Links { links: self.links.clone() });
        }
        messages
    }
}

#[cfg(test)]
mod tests {
    use nightgate_model::id::{IdentityId, RouterId, ServiceId, TerminatorId};

    use super::*;

    fn terminator(id: &str) -> Terminator {
        Terminator {
            id: TerminatorId::new(id),
            service: ServiceId::new("web"),
            router: RouterId::new("r"),
            host: IdentityId::new("hugo"),
            instance: String::new(),
            secret: String::new(),
            precedence: Default::default(),
            cost: 0,
        }
    }

    #[test]
    fn a_terminator_that_changes_is_never_gone() {
        let before = Report { links: vec![], terminators: vec![terminator("a")] };
        let dearer = Terminator { cost: 7, ..terminator("a") };
        let after = Report { links: vec![], terminators: vec![dearer.clone()] };

        assert_eq!(after.changes(&before), [RouterMessage::TerminatorAdded(dearer)]);
    }

    #[test]
    fn only_differences_are_told() {
        let link = LinkReport { from: RouterId::new("r"), to: RouterId::new("s"), cost: 1 };
        let before = Report { links: vec![], terminators: vec![terminator("a"), terminator("b")] };
        let after = Report {
            links: vec![link.clone()],
            terminators: vec![terminator("b"), terminator("c")],
        };
        assert_eq!(
            after.changes(&before),
            [
                RouterMessage::TerminatorRemoved { id: TerminatorId::new("a") },
                RouterMessage::TerminatorAdded(terminator("c")),
                RouterMessage::Links { links: vec![link] },
            ]
        );
        assert_eq!(after.changes(&after), []);
    }
}
