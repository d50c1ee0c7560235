//! Tokens to a query.

use serde_json::Value;

use super::{
    Comparison, Direction, FilterError, Limit, MAX_DEPTH, MAX_LENGTH, Operator, Predicate, Query,
    SortKey, Subject,
    lexer::{Token, TokenKind, error, tokens},
};

/// Reads a query.
pub(super) fn parse(text: &str) -> Result<Query, FilterError> {
    if text.len() > MAX_LENGTH {
        let found = format!("{} bytes", text.len());
        return Err(error(0, found, &format!("at most {MAX_LENGTH} bytes")));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0 };
    let predicate = if parser.begins_clause() { None } else { Some(parser.disjunction(0)?) };
    let mut query = Query { predicate, ..Query::default() };
    while *parser.peek() != TokenKind::End {
        parser.clause(&mut query)?;
    }
    Ok(query)
}

/// Words that begin what follows the predicate.
const CLAUSES: [&str; 3] = ["sort", "skip", "limit"];

struct Parser {
    /// Ends with [`TokenKind::End`].
    tokens: Vec<Token>,
    next: usize,
}

impl Parser {
    fn peek(&self) -> &TokenKind {
        &self.tokens[self.next].kind
    }

    fn at(&self) -> usize {
        self.tokens[self.next].at
    }

    fn take(&mut self) -> TokenKind {
        let kind = self.peek().clone();
        self.next = (self.next + 1).min(self.tokens.len() - 1);
        kind
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, FilterError> {
        Err(error(self.at(), self.peek().to_string(), expected))
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), TokenKind::Word(found) if found.eq_ignore_ascii_case(word))
    }

    /// Takes a keyword if it is the next token.
    fn word(&mut self, word: &str) -> bool {
        let found = self.is_word(word);
        if found {
            self.take();
        }
        found
    }

    fn mark(&mut self, mark: char) -> Result<(), FilterError> {
        if *self.peek() == TokenKind::Mark(mark) {
            self.take();
            return Ok(());
        }
        self.wrong(&format!("{mark:?}"))
    }

    /// Whether the predicate is over, or there is none.
    fn begins_clause(&self) -> bool {
        let after = self.tokens.get(self.next + 1).map(|token| &token.kind);
        // A field may be called like a clause: an operator after it tells.
        let is_field = matches!(after, Some(TokenKind::Comparison(_)));
        *self.peek() == TokenKind::End
            || (!is_field && CLAUSES.iter().any(|clause| self.is_word(clause)))
    }

    fn disjunction(&mut self, depth: usize) -> Result<Predicate, FilterError> {
        let mut parts = vec![self.conjunction(depth)?];
        while self.word("or") {
            parts.push(self.conjunction(depth)?);
        }
        Ok(single(parts, Predicate::Or))
    }

    fn conjunction(&mut self, depth: usize) -> Result<Predicate, FilterError> {
        let mut parts = vec![self.condition(depth)?];
        while self.word("and") {
            parts.push(self.condition(depth)?);
        }
        Ok(single(parts, Predicate::And))
    }

    fn condition(&mut self, depth: usize) -> Result<Predicate, FilterError> {
        if depth >= MAX_DEPTH {
            return self.wrong(&format!("at most {MAX_DEPTH} levels"));
        }
        if self.word("not") {
            return Ok(Predicate::Not(Box::new(self.condition(depth + 1)?)));
        }
        match self.peek() {
            TokenKind::Mark('(') => {
                self.take();
                let inner = self.disjunction(depth + 1)?;
                self.mark(')')?;
                Ok(inner)
            }
            TokenKind::Word(_) if !self.begins_clause() => self.comparison(),
            TokenKind::Word(_)
            | TokenKind::Literal(_)
            | TokenKind::Comparison(_)
            | TokenKind::Mark(_)
            | TokenKind::End => self.wrong("a condition, for example name = \"x\""),
        }
    }

    fn comparison(&mut self) -> Result<Predicate, FilterError> {
        let name = self.field()?;
        let is_call = *self.peek() == TokenKind::Mark('(');
        let subject = match name.to_ascii_lowercase().as_str() {
            "isempty" if is_call => return Ok(Predicate::IsEmpty(self.argument()?)),
            "anyof" if is_call => Subject::AnyOf(self.argument()?),
            "allof" if is_call => Subject::AllOf(self.argument()?),
            "noneof" if is_call => Subject::NoneOf(self.argument()?),
            "count" if is_call => Subject::Count(self.argument()?),
            "true" => return Ok(Predicate::Constant(true)),
            "false" => return Ok(Predicate::Constant(false)),
            _ => Subject::Field(name.clone()),
        };
        match (self.operator()?, subject) {
            (Some(comparison), subject) => Ok(Predicate::Compare(subject, comparison)),
            (None, Subject::Field(field)) => Ok(Predicate::Flag(field)),
            (
                None,
                Subject::AnyOf(_) | Subject::AllOf(_) | Subject::NoneOf(_) | Subject::Count(_),
            ) => self.wrong("an operator"),
        }
    }

    /// The comparison after a subject; none if the subject stands by itself.
    fn operator(&mut self) -> Result<Option<Comparison>, FilterError> {
        if let TokenKind::Comparison(written) = *self.peek() {
            self.take();
            return self.one(written).map(Some);
        }
        let is_negated = self.word("not");
        let word =
            ["contains", "icontains", "in", "between"].into_iter().find(|word| self.word(word));
        let comparison = match (word, is_negated) {
            (Some("in"), false) => Comparison::In(self.list()?),
            (Some("in"), true) => Comparison::NotIn(self.list()?),
            (Some("between"), _) => {
                let low = self.value()?;
                if !self.word("and") {
                    return self.wrong("\"and\"");
                }
                let high = self.value()?;
                if is_negated {
                    Comparison::NotBetween(low, high)
                } else {
                    Comparison::Between(low, high)
                }
            }
            (Some(word), false) => self.one(word)?,
            (Some(word), true) => self.one(&format!("not {word}"))?,
            (None, true) => return self.wrong("contains, icontains, in or between"),
            (None, false) => return Ok(None),
        };
        Ok(Some(comparison))
    }

    fn one(&mut self, written: &str) -> Result<Comparison, FilterError> {
        match Operator::WRITTEN.iter().find(|(_, known)| *known == written) {
            Some((operator, _)) => Ok(Comparison::One(*operator, self.value()?)),
            None => self.wrong("an operator"),
        }
    }

    fn list(&mut self) -> Result<Vec<Value>, FilterError> {
        self.mark('[')?;
        let mut values = vec![self.value()?];
        while *self.peek() == TokenKind::Mark(',') {
            self.take();
            values.push(self.value()?);
        }
        self.mark(']')?;
        Ok(values)
    }

    fn value(&mut self) -> Result<Value, FilterError> {
        if let TokenKind::Literal(value) = self.peek() {
            let value = value.clone();
            self.take();
            return Ok(value);
        }
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if self.word(word) {
                return Ok(value);
            }
        }
        if self.is_word("datetime") {
            self.take();
            self.mark('(')?;
            let moment = match self.take() {
                TokenKind::Word(text) | TokenKind::Literal(Value::String(text)) => text,
                TokenKind::Literal(_)
                | TokenKind::Comparison(_)
                | TokenKind::Mark(_)
                | TokenKind::End => return self.wrong("a quoted RFC 3339 timestamp"),
            };
            self.mark(')')?;
            return Ok(Value::String(moment));
        }
        self.wrong("a quoted text, a number, true, false or null")
    }

    fn argument(&mut self) -> Result<String, FilterError> {
        self.mark('(')?;
        let field = self.field()?;
        self.mark(')')?;
        Ok(field)
    }

    fn field(&mut self) -> Result<String, FilterError> {
        if let TokenKind::Word(word) = self.peek() {
            let word = word.clone();
            self.take();
            return Ok(word);
        }
        self.wrong("a field")
    }

    fn clause(&mut self, query: &mut Query) -> Result<(), FilterError> {
        if query.sort.is_empty() && self.word("sort") {
            if !self.word("by") {
                return self.wrong("\"by\"");
            }
            query.sort.push(self.sort_key()?);
            while *self.peek() == TokenKind::Mark(',') {
                self.take();
                query.sort.push(self.sort_key()?);
            }
        } else if query.skip.is_none() && self.word("skip") {
            query.skip = Some(self.count()?);
        } else if query.limit.is_none() && self.word("limit") {
            let limit = if self.word("none") { Limit::None } else { Limit::Count(self.count()?) };
            query.limit = Some(limit);
        } else {
            return self.wrong("and, or, sort by, skip, limit or the end");
        }
        Ok(())
    }

    fn sort_key(&mut self) -> Result<SortKey, FilterError> {
        let field = self.field()?;
        let direction = if self.word("desc") {
            Direction::Descending
        } else {
            self.word("asc");
            Direction::Ascending
        };
        Ok(SortKey { field, direction })
    }

    fn count(&mut self) -> Result<usize, FilterError> {
        let number = match self.peek() {
            TokenKind::Literal(value) => value.as_u64().and_then(|n| usize::try_from(n).ok()),
            TokenKind::Word(_) | TokenKind::Comparison(_) | TokenKind::Mark(_) | TokenKind::End => {
                None
            }
        };
        match number {
            Some(number) => {
                self.take();
                Ok(number)
            }
            None => self.wrong("a whole number"),
        }
    }
}

fn single(mut parts: Vec<Predicate>, several: fn(Vec<Predicate>) -> Predicate) -> Predicate {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            several(parts)
        }
    }
}
