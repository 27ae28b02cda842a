//! One value of a document, and what it can be read as.

use std::{fmt, ops::Range, time::Duration};

use serde_json::{Number, Value};
use toml::{
    Spanned,
    de::{DeInteger, DeTable, DeValue},
};

use super::{Document, Table, quantity};
use crate::fault::{Fault, Faults, Place};

/// A value with the place where it stands. Each reader reports a value of another kind and gives `None`.
#[derive(Clone, Debug)]
pub struct Item<'d> {
    document: &'d Document<'d>,
    path: String,
    key: &'d str,
    key_span: Range<usize>,
    span: Range<usize>,
    value: &'d DeValue<'d>,
}

/// What kind of value an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text in quotes.
    String,
    /// A whole number.
    Integer,
    /// A number with a fraction or an exponent.
    Float,
    /// `true` or `false`.
    Boolean,
    /// A date or a time without quotes.
    Date,
    /// A list.
    Array,
    /// A table, in braces or under a header.
    Table,
}

impl<'d> Item<'d> {
    pub(super) fn new(
        document: &'d Document<'d>,
        path: String,
        key: &'d str,
        key_span: Range<usize>,
        value: &'d Spanned<DeValue<'d>>,
    ) -> Self {
        Self {
            document,
            path,
            key,
            key_span,
            span: document.span(value.span()),
            value: value.get_ref(),
        }
    }

    /// The last part of its path.
    pub fn key(&self) -> &'d str {
        self.key
    }

    /// The path of its keys from the top, as in `route.step.use`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Which bytes the key is.
    pub fn key_span(&self) -> Range<usize> {
        self.key_span.clone()
    }

    /// Which bytes the value is.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where the value stands.
    pub fn place(&self) -> Place {
        self.document.source.place(self.span())
    }

    /// A fault of the value, whose message is led by its path.
    pub fn fault(&self, message: impl fmt::Display) -> Fault {
        let message = format!("`{}`: {message}", self.path);
        self.document.source.fault(self.span(), message)
    }

    /// A fault of the key, whose message is led by its path.
    pub fn key_fault(&self, message: impl fmt::Display) -> Fault {
        let message = format!("`{}`: {message}", self.path);
        self.document.source.fault(self.key_span(), message)
    }

    /// What kind of value it is.
    pub fn kind(&self) -> Kind {
        match self.value {
            DeValue::String(_) => Kind::String,
            DeValue::Integer(_) => Kind::Integer,
            DeValue::Float(_) => Kind::Float,
            DeValue::Boolean(_) => Kind::Boolean,
            DeValue::Datetime(_) => Kind::Date,
            DeValue::Array(_) => Kind::Array,
            DeValue::Table(_) => Kind::Table,
        }
    }

    /// The text, where it is one; nothing is reported.
    pub fn as_str(&self) -> Option<&'d str> {
        self.value.as_str()
    }

    /// The truth value, where it is one; nothing is reported.
    pub fn as_bool(&self) -> Option<bool> {
        self.value.as_bool()
    }

    /// The number as text, in decimal and without underscores, where it is one; nothing is reported.
    pub fn number_text(&self) -> Option<String> {
        match self.value {
            DeValue::Integer(number) => Some(match whole(number) {
                Some(whole) => whole.to_string(),
                None => number.as_str().to_owned(),
            }),
            DeValue::Float(number) => Some(number.as_str().trim_start_matches('+').to_owned()),
            _ => None,
        }
    }

    /// The text.
    pub fn string(&self, faults: &mut Faults) -> Option<String> {
        let text = self.as_str().map(str::to_owned);
        text.or_else(|| self.mismatch("a string", faults))
    }

    /// The truth value.
    pub fn bool(&self, faults: &mut Faults) -> Option<bool> {
        self.value
            .as_bool()
            .or_else(|| self.mismatch("`true` or `false`", faults))
    }

    /// The whole number, which must lie in `range`.
    pub fn integer<T>(&self, range: std::ops::RangeInclusive<T>, faults: &mut Faults) -> Option<T>
    where
        T: TryFrom<i128> + PartialOrd + fmt::Display,
    {
        let expected = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(number) = self.value.as_integer() else {
            return self.mismatch(&expected, faults);
        };
        let value = whole(number).and_then(|number| T::try_from(number).ok());
        let value = value.filter(|value| range.contains(value));
        if value.is_none() {
            faults.push(self.fault(format!("found {number}, expected {expected}")));
        }
        value
    }

    /// The time, as in `250ms`, `2s`, `10m`, `24h` or `7d`.
    pub fn duration(&self, faults: &mut Faults) -> Option<Duration> {
        self.quantity(
            "a time such as \"250ms\", \"2s\", \"10m\", \"24h\" or \"7d\"",
            quantity::duration,
            faults,
        )
    }

    /// The number of bytes, as in `512B`, `64KiB`, `5MiB` or `1GB`.
    pub fn size(&self, faults: &mut Faults) -> Option<u64> {
        self.quantity(
            "a size such as \"512B\", \"64KiB\", \"5MiB\" or \"1GB\"",
            quantity::size,
            faults,
        )
    }

    /// What the word stands for.
    pub fn one_of<T: Clone>(&self, words: &[(&str, T)], faults: &mut Faults) -> Option<T> {
        let word = self.string(faults)?;
        let found = words.iter().find(|(name, _)| *name == word);
        if found.is_none() {
            let names: Vec<_> = words.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            let message = format!("found \"{word}\", expected {}", names.join(" or "));
            faults.push(self.fault(message));
        }
        found.map(|(_, value)| value.clone())
    }

    /// The table.
    pub fn table(&self, faults: &mut Faults) -> Option<Table<'d>> {
        let table = self.as_table();
        table.or_else(|| self.mismatch("a table", faults))
    }

    /// The table, where it is one; nothing is reported.
    pub fn as_table(&self) -> Option<Table<'d>> {
        let table: &'d DeTable<'d> = self.value.as_table()?;
        Some(Table {
            document: self.document,
            table,
            name: self.path.clone(),
            span: self.span(),
            known: Vec::new(),
        })
    }

    /// The values of the list.
    pub fn array(&self, faults: &mut Faults) -> Option<Vec<Self>> {
        let values = self.as_array();
        values.or_else(|| self.mismatch("a list", faults))
    }

    /// The values of the list, where it is one; nothing is reported. They go by the path of the list.
    pub fn as_array(&self) -> Option<Vec<Self>> {
        let values = self.value.as_array()?;
        let item = |value: &'d Spanned<DeValue<'d>>| {
            let span = self.document.span(value.span());
            Self::new(self.document, self.path.clone(), self.key, span, value)
        };
        Some(values.iter().map(item).collect())
    }

    /// The value in JSON. What JSON has no form for, as a bare date, is a fault.
    pub fn json(&self, faults: &mut Faults) -> Option<Value> {
        match self.value {
            DeValue::String(text) => Some(Value::from(text.as_ref())),
            DeValue::Boolean(truth) => Some(Value::from(*truth)),
            DeValue::Integer(number) => {
                let number = whole(number).and_then(Number::from_i128);
                let number = number.or_else(|| self.mismatch("a number of at most 64 bits", faults));
                number.map(Value::Number)
            }
            DeValue::Float(number) => {
                let number = number.as_str().parse().ok().and_then(Number::from_f64);
                let number = number.or_else(|| self.mismatch("a finite number", faults));
                number.map(Value::Number)
            }
            DeValue::Datetime(_) => self.mismatch("a string", faults),
            DeValue::Array(_) => {
                let items = self.as_array().unwrap_or_default();
                let values: Vec<_> = items.iter().map(|item| item.json(faults)).collect();
                values.into_iter().collect::<Option<Vec<_>>>().map(Value::Array)
            }
            DeValue::Table(_) => {
                let entries = self.as_table().map(|table| table.entries()).unwrap_or_default();
                let values: Vec<_> = entries
                    .iter()
                    .map(|item| Some((item.key.to_owned(), item.json(faults)?)))
                    .collect();
                values.into_iter().collect::<Option<_>>().map(Value::Object)
            }
        }
    }

    /// Reports that the value is of another kind than `expected`.
    pub fn mismatch<T>(&self, expected: &str, faults: &mut Faults) -> Option<T> {
        let fault = self.fault(format!("found {}, expected {expected}", self.kind()));
        faults.push(match self.kind() {
            Kind::Date => fault.help("write the date in quotes"),
            _ => fault,
        });
        None
    }

    fn quantity<T>(
        &self,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
        faults: &mut Faults,
    ) -> Option<T> {
        let Some(text) = self.as_str() else {
            return self.mismatch(expected, faults);
        };
        let value = read(text);
        if value.is_none() {
            faults.push(self.fault(format!("found \"{text}\", expected {expected}")));
        }
        value
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Integer => "a whole number",
            Self::Float => "a number",
            Self::Boolean => "a truth value",
            Self::Date => "a bare date or time",
            Self::Array => "a list",
            Self::Table => "a table",
        })
    }
}

fn whole(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}
