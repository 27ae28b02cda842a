//! Reads the listed values of a pattern: what a value of the event must be.

use super::{
    address::{self, Cidr},
    node::{Member, Node, NodeValue},
    reader::Reader,
    test::{Bound, Test},
    text::{Folded, Wildcard},
};
use crate::fault::nearest;

impl Reader<'_> {
    /// Reads one listed value.
    pub(super) fn test(&mut self, node: &Node) -> Option<Test> {
        match &node.value {
            NodeValue::Null => Some(Test::Null),
            NodeValue::Bool(truth) => Some(Test::Bool(*truth)),
            NodeValue::Number(text) => self.number(node, text).map(Test::Number),
            NodeValue::String(text) => Some(match address::parse(text) {
                Some(address) => Test::Address(Box::new((text.as_str().into(), address))),
                None => Test::String(text.as_str().into()),
            }),
            NodeValue::Table(members) => self.operator(node, members),
            NodeValue::List(_) => self.unfit(node, "a value or an operator"),
            NodeValue::Date => {
                self.wrong_with(
                    &node.span,
                    "found a bare date, expected a string".to_owned(),
                    "write the date in quotes".to_owned(),
                );
                None
            }
        }
    }

    fn operator(&mut self, node: &Node, members: &[Member]) -> Option<Test> {
        let operator = self.only_member(node, members)?;
        let operand = &operator.node;
        match operator.key.as_str() {
            "exactly" => self.string(operand).map(|text| Test::String(text.into())),
            "prefix" => self.end(
                operand,
                |text| Test::Prefix(text.into()),
                Test::PrefixIgnoringCase,
            ),
            "suffix" => self.end(
                operand,
                |text| Test::Suffix(text.into()),
                Test::SuffixIgnoringCase,
            ),
            "equals-ignore-case" => self
                .string(operand)
                .map(|text| Test::EqualsIgnoringCase(Folded::new(text))),
            "wildcard" => self.wildcard(operand),
            "anything-but" => self.anything_but(operand),
            "numeric" => self.numeric(operand),
            "cidr" => {
                let text = self.string(operand)?;
                let range = Cidr::parse(text);
                range
                    .map(|range| Test::Cidr(Box::new(range)))
                    .map_err(|reason| self.wrong(&operand.span, reason))
                    .ok()
            }
            "exists" => match operand.value {
                NodeValue::Bool(true) => Some(Test::Exists),
                NodeValue::Bool(false) => Some(Test::Absent),
                _ => self.unfit(operand, "`true` or `false` for `exists`"),
            },
            unknown => {
                let message = format!("there is no operator `{unknown}`");
                let help = match nearest(unknown, OPERATORS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!(
                        "there is: {}",
                        OPERATORS.map(|name| format!("`{name}`")).join(", ")
                    ),
                };
                self.wrong_with(&operator.key_span, message, help);
                None
            }
        }
    }

    /// The one member of an operator's table.
    fn only_member<'n>(&mut self, node: &Node, members: &'n [Member]) -> Option<&'n Member> {
        match members {
            [only] => Some(only),
            [] => self.unfit_table(node, "an empty table, expected an operator such as `prefix`"),
            [_, more, ..] => {
                let message = format!(
                    "`{}` beside another operator, expected one in each table",
                    more.key
                );
                self.wrong_with(&more.key_span, message, "write two tables to say or".to_owned());
                None
            }
        }
    }

    /// `prefix` or `suffix`: of a text, or of one that ignores case.
    fn end(
        &mut self,
        operand: &Node,
        plain: impl FnOnce(&str) -> Test,
        ignoring_case: impl FnOnce(Folded) -> Test,
    ) -> Option<Test> {
        let NodeValue::Table(members) = &operand.value else {
            return self.string(operand).map(plain);
        };
        let inner = self.only_member(operand, members)?;
        if inner.key != "equals-ignore-case" {
            self.wrong(
                &inner.key_span,
                format!("found `{}`, expected a string or `equals-ignore-case`", inner.key),
            );
            return None;
        }
        self.string(&inner.node)
            .map(|text| ignoring_case(Folded::new(text)))
    }

    fn wildcard(&mut self, operand: &Node) -> Option<Test> {
        let text = self.string(operand)?;
        match Wildcard::parse(text) {
            Ok(wildcard) => Some(Test::Wildcard(wildcard)),
            Err(reason) => {
                self.wrong(&operand.span, reason);
                None
            }
        }
    }

    fn anything_but(&mut self, operand: &Node) -> Option<Test> {
        match &operand.value {
            NodeValue::Table(members) => self.anything_but_text(operand, members),
            NodeValue::List(nodes) => {
                let tests: Option<Vec<_>> = nodes.iter().map(|node| self.excluded(node)).collect();
                let tests = tests?;
                let numbers = tests
                    .iter()
                    .filter(|test| matches!(test, Test::Number(_)))
                    .count();
                if tests.is_empty() || (numbers > 0 && numbers < tests.len()) {
                    return self.unfit_table(
                        operand,
                        "`anything-but` needs a list of strings or a list of numbers",
                    );
                }
                Some(Test::AnythingBut(tests.into()))
            }
            _ => self
                .excluded(operand)
                .map(|test| Test::AnythingBut([test].into())),
        }
    }

    /// A string or a number that is not to be.
    fn excluded(&mut self, node: &Node) -> Option<Test> {
        match &node.value {
            NodeValue::String(text) => Some(Test::String(text.as_str().into())),
            NodeValue::Number(text) => self.number(node, text).map(Test::Number),
            _ => self.unfit(node, "a string or a number in `anything-but`"),
        }
    }

    /// `anything-but` of an operator, with one string or a list of them.
    fn anything_but_text(&mut self, operand: &Node, members: &[Member]) -> Option<Test> {
        let inner = self.only_member(operand, members)?;
        let may_be_empty = match inner.key.as_str() {
            "prefix" | "suffix" => false,
            "equals-ignore-case" | "wildcard" => true,
            other => {
                let message = format!(
                    "found `{other}` in `anything-but`, expected `prefix`, `suffix`, `equals-ignore-case` or `wildcard`"
                );
                self.wrong(&inner.key_span, message);
                return None;
            }
        };
        let nodes = match &inner.node.value {
            NodeValue::List(nodes) if nodes.is_empty() => {
                return self.unfit(&inner.node, "at least one string");
            }
            NodeValue::List(nodes) => nodes.as_slice(),
            _ => std::slice::from_ref(&inner.node),
        };
        let tests = nodes.iter().map(|node| {
            let text = self.string(node)?;
            if text.is_empty() && !may_be_empty {
                self.wrong(
                    &node.span,
                    format!("an empty `{}`, which every string has", inner.key),
                );
                return None;
            }
            match inner.key.as_str() {
                "prefix" => Some(Test::Prefix(text.into())),
                "suffix" => Some(Test::Suffix(text.into())),
                "wildcard" => self.wildcard(node),
                _ => Some(Test::EqualsIgnoringCase(Folded::new(text))),
            }
        });
        let tests = tests
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Option<Vec<_>>>()?;
        Some(Test::AnythingBut(tests.into()))
    }

    /// `["=", 1]`, `[">", 1]`, `[">=", 1, "<", 5]` and so on.
    fn numeric(&mut self, operand: &Node) -> Option<Test> {
        let expected = "an operator and a number, or a range such as [\">=\", 0, \"<\", 5]";
        let NodeValue::List(parts) = &operand.value else {
            return self.unfit(operand, expected);
        };
        let mut pairs = Vec::new();
        for pair in parts.chunks(2) {
            let [operator, number] = pair else {
                return self.unfit_table(
                    operand,
                    &format!("an operator without a number, expected {expected}"),
                );
            };
            let operator = self.string(operator)?;
            let NodeValue::Number(text) = &number.value else {
                return self.unfit(number, &format!("a number after `{operator}`"));
            };
            pairs.push((operator, self.number(number, text)?));
        }
        let bound = |number, inclusive| Some(Bound { number, inclusive });
        let (low, high) = match pairs.as_slice() {
            [("=", number)] => return Some(Test::Number(*number)),
            [(">", low)] => (bound(*low, false), None),
            [(">=", low)] => (bound(*low, true), None),
            [("<", high)] => (None, bound(*high, false)),
            [("<=", high)] => (None, bound(*high, true)),
            [(from @ (">" | ">="), low), (to @ ("<" | "<="), high)] => {
                if low >= high {
                    return self
                        .unfit_table(operand, &format!("the range ends at {high} and begins at {low}"));
                }
                (bound(*low, *from == ">="), bound(*high, *to == "<="))
            }
            _ => return self.unfit_table(operand, &format!("not a range of numbers, expected {expected}")),
        };
        Some(Test::Within(Box::new([low, high])))
    }
}

const OPERATORS: [&str; 8] = [
    "prefix",
    "suffix",
    "equals-ignore-case",
    "wildcard",
    "anything-but",
    "numeric",
    "cidr",
    "exists",
];
