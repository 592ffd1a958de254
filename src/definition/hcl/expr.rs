//! Expressions, by precedence: conditional, `||`, `&&`, equality, comparison, sums, products, unary, steps, terms.

use std::sync::Arc;

use super::cursor::{Cursor, HclResult};
use crate::{
    definition::syntax::{
        BinaryOp, CallSyntax, Chain, Conditional, Expr, ExprKind, For, Splat, TraversalStep, UnaryOp,
    },
    report::{Diagnostic, Spanned},
};

impl Cursor<'_> {
    /// A whole expression.
    pub(super) fn expression(&mut self) -> HclResult<Expr> {
        self.deeper(|cursor| {
            let start = cursor.pos;
            let first = cursor.unary()?;
            let condition = cursor.operators(start, first, 0)?;
            cursor.skip_blanks();
            if cursor.peek() == b'?' { cursor.conditional(start, condition) } else { Ok(condition) }
        })
    }

    fn conditional(&mut self, start: usize, condition: Expr) -> HclResult<Expr> {
        self.pos += 1;
        self.skip_blanks();
        let then = self.expression()?;
        self.skip_blanks();
        if self.peek() != b':' {
            return Err(self.expected("`:` of the conditional"));
        }
        self.pos += 1;
        self.skip_blanks();
        let otherwise = self.expression()?;
        let kind = ExprKind::Conditional(Box::new(Conditional { condition, then, otherwise }));
        Ok(Expr::new(kind, self.since(start)))
    }

    /// The operators after `left` that bind as tight as `loosest` or tighter, with their operands.
    fn operators(&mut self, start: usize, mut left: Expr, loosest: u8) -> HclResult<Expr> {
        loop {
            self.skip_blanks();
            let Some((level, ..)) = self.operator().filter(|(level, ..)| *level >= loosest) else {
                return Ok(left);
            };
            let mut rest = Vec::new();
            while let Some((_, op, length)) = self.operator().filter(|(next, ..)| *next == level) {
                let at = self.pos;
                self.pos += length;
                let op = Spanned::new(op, self.since(at));
                self.skip_blanks();
                let operand_start = self.pos;
                let operand = self.unary()?;
                rest.push((op, self.operators(operand_start, operand, level + 1)?));
                self.skip_blanks();
            }
            left = Expr::new(ExprKind::Chain(Box::new(Chain { first: left, rest })), self.since(start));
        }
    }

    /// The operator that is next: how tight it binds, what it is, how long it is.
    fn operator(&self) -> Option<(u8, BinaryOp, usize)> {
        let next = self.peek_at(1);
        Some(match self.peek() {
            b'|' if next == b'|' => (0, BinaryOp::Or, 2),
            b'&' if next == b'&' => (1, BinaryOp::And, 2),
            b'=' if next == b'=' => (2, BinaryOp::Equal, 2),
            b'!' if next == b'=' => (2, BinaryOp::NotEqual, 2),
            b'<' if next == b'=' => (3, BinaryOp::LessOrEqual, 2),
            b'>' if next == b'=' => (3, BinaryOp::GreaterOrEqual, 2),
            b'<' => (3, BinaryOp::Less, 1),
            b'>' => (3, BinaryOp::Greater, 1),
            b'+' => (4, BinaryOp::Add, 1),
            b'-' => (4, BinaryOp::Subtract, 1),
            b'*' => (5, BinaryOp::Multiply, 1),
            b'/' => (5, BinaryOp::Divide, 1),
            b'%' => (5, BinaryOp::Remainder, 1),
            _ => return None,
        })
    }

    fn unary(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        let op = match self.peek() {
            b'!' if self.peek_at(1) != b'=' => UnaryOp::Not,
            b'-' => UnaryOp::Negate,
            _ => return self.steps(),
        };
        self.pos += 1;
        self.skip_blanks();
        let operand = Box::new(self.deeper(Self::unary)?);
        Ok(Expr::new(ExprKind::Unary { op, operand }, self.since(start)))
    }

    /// A term and the steps after it: `.name`, `[index]`, splats.
    fn steps(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        let mut expr = self.term()?;
        let mut n = 0;
        loop {
            // A step may stand on the next line only inside brackets.
            let before = self.pos;
            self.skip_blanks();
            match self.peek() {
                b'.' if self.rest().starts_with("...") => {
                    self.pos = before;
                    return Ok(expr);
                }
                b'.' => {
                    self.pos += 1;
                    self.skip_blanks();
                    if self.eat("*") {
                        let steps = self.splat_members()?;
                        let splat = Box::new(Splat { source: expr, steps });
                        expr = Expr::new(ExprKind::Splat(splat), self.since(start));
                    } else {
                        expr = self.member(expr, start)?;
                    }
                }
                b'[' => expr = self.index(expr, start)?,
                _ => {
                    self.pos = before;
                    return Ok(expr);
                }
            }
            n += 1;
            if n > crate::definition::syntax::MAX_DEPTH {
                let at = self.since(start);
                return Err(self.fault(
                    Diagnostic::error("bake::definition::too_deep", "an expression has too many steps").at(at, "here"),
                ));
            }
        }
    }

    fn member(&mut self, source: Expr, start: usize) -> HclResult<Expr> {
        if self.peek().is_ascii_digit() {
            let at = self.pos;
            let n = self.rest().find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len());
            let number: Arc<str> = self.rest()[..n].into();
            self.pos += n;
            let index = Box::new(Expr::new(ExprKind::Number(number), self.since(at)));
            return Ok(Expr::new(ExprKind::Index { source: Box::new(source), index }, self.since(start)));
        }
        let Some(name) = self.word() else {
            return Err(self.expected("the name of an attribute after `.`"));
        };
        Ok(Expr::new(ExprKind::Member { source: Box::new(source), name: Box::new(name) }, self.since(start)))
    }

    fn index(&mut self, source: Expr, start: usize) -> HclResult<Expr> {
        self.open(1, "index", "]");
        self.multiline += 1;
        self.skip_blanks();
        if self.peek() == b'*' {
            self.pos += 1;
            self.skip_blanks();
            self.close("")?;
            self.multiline -= 1;
            let steps = self.splat_steps()?;
            return Ok(Expr::new(ExprKind::Splat(Box::new(Splat { source, steps })), self.since(start)));
        }
        let index = Box::new(self.expression()?);
        self.skip_blanks();
        self.close("")?;
        self.multiline -= 1;
        Ok(Expr::new(ExprKind::Index { source: Box::new(source), index }, self.since(start)))
    }

    /// After `.*`: members only.
    fn splat_members(&mut self) -> HclResult<Vec<TraversalStep>> {
        let mut steps = Vec::new();
        while self.peek() == b'.' && !self.rest().starts_with("...") && self.peek_at(1) != b'*' {
            self.pos += 1;
            steps.push(self.splat_member()?);
        }
        Ok(steps)
    }

    /// After `[*]`: members, indexes and further splats, all taken from each element.
    fn splat_steps(&mut self) -> HclResult<Vec<TraversalStep>> {
        let mut steps = Vec::new();
        loop {
            match self.peek() {
                b'.' if self.rest().starts_with(".*") => {
                    self.pos += 2;
                    steps.push(TraversalStep::Splat(self.splat_members()?));
                }
                b'.' if !self.rest().starts_with("...") => {
                    self.pos += 1;
                    steps.push(self.splat_member()?);
                }
                b'[' => {
                    self.open(1, "index", "]");
                    self.multiline += 1;
                    self.skip_blanks();
                    if self.eat("*") {
                        self.skip_blanks();
                        self.close("")?;
                        self.multiline -= 1;
                        steps.push(TraversalStep::Splat(self.deeper(Self::splat_steps)?));
                        return Ok(steps);
                    }
                    let index = self.expression()?;
                    self.skip_blanks();
                    self.close("")?;
                    self.multiline -= 1;
                    steps.push(TraversalStep::Index(index));
                }
                _ => return Ok(steps),
            }
        }
    }

    fn splat_member(&mut self) -> HclResult<TraversalStep> {
        if self.peek().is_ascii_digit() {
            let at = self.pos;
            let n = self.rest().find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest().len());
            let number: Arc<str> = self.rest()[..n].into();
            self.pos += n;
            return Ok(TraversalStep::Index(Expr::new(ExprKind::Number(number), self.since(at))));
        }
        match self.word() {
            Some(name) => Ok(TraversalStep::Member(name)),
            None => Err(self.expected("the name of an attribute after `.`")),
        }
    }

    fn term(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        match self.peek() {
            b'"' => self.quoted(),
            b'<' if self.rest().starts_with("<<") => self.heredoc(),
            b'(' => self.parens(),
            b'[' => self.tuple(),
            b'{' => self.object(),
            b'0'..=b'9' => self.number(),
            _ => {
                match self.word() {
                    Some(word) => self.name(word, start),
                    None if self.peek() == b'$' => Err(self
                        .expected_but("a value", Some("a variable is written `NAME`, and `${NAME}` inside a string"))),
                    None => Err(self.expected("a value")),
                }
            }
        }
    }

    fn name(&mut self, word: Spanned<Arc<str>>, start: usize) -> HclResult<Expr> {
        let mut name = word;
        while self.rest().starts_with("::") {
            self.pos += 2;
            let Some(next) = self.word() else {
                return Err(self.expected("the name of a function after `::`"));
            };
            name = Spanned::new(format!("{}::{}", name.value, next.value).into(), self.since(start));
        }
        let after = self.pos;
        self.skip_blanks();
        if self.peek() == b'(' {
            return self.call(name, start);
        }
        self.pos = after;
        let kind = match &*name.value {
            "true" => ExprKind::Bool(true),
            "false" => ExprKind::Bool(false),
            "null" => ExprKind::Null,
            _ => ExprKind::Variable(name.value.clone()),
        };
        Ok(Expr::new(kind, name.at))
    }

    fn call(&mut self, name: Spanned<Arc<str>>, start: usize) -> HclResult<Expr> {
        self.open(1, "list of arguments", ")");
        self.multiline += 1;
        let (mut args, mut expand_last) = (Vec::new(), false);
        loop {
            self.skip_blanks();
            if self.peek() == b')' {
                break;
            }
            args.push(self.expression()?);
            self.skip_blanks();
            if self.eat("...") {
                expand_last = true;
                self.skip_blanks();
                if self.peek() == b',' {
                    self.pos += 1;
                    self.skip_blanks();
                }
                break;
            }
            if self.peek() != b',' {
                break;
            }
            self.pos += 1;
        }
        self.close(if expand_last { "" } else { "`,` or " })?;
        self.multiline -= 1;
        Ok(Expr::new(ExprKind::Call(Box::new(CallSyntax { name, args, expand_last })), self.since(start)))
    }

    fn parens(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        self.open(1, "parenthesis", ")");
        self.multiline += 1;
        self.skip_blanks();
        let inner = self.expression()?;
        self.skip_blanks();
        self.close("")?;
        self.multiline -= 1;
        Ok(Expr::new(ExprKind::Parens(Box::new(inner)), self.since(start)))
    }

    fn number(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        let digits = |cursor: &mut Self| {
            while cursor.peek().is_ascii_digit() {
                cursor.pos += 1;
            }
        };
        digits(self);
        if self.peek() == b'.' && self.peek_at(1).is_ascii_digit() {
            self.pos += 1;
            digits(self);
        }
        if matches!(self.peek(), b'e' | b'E') {
            let sign = usize::from(matches!(self.peek_at(1), b'+' | b'-'));
            if self.peek_at(1 + sign).is_ascii_digit() {
                self.pos += 1 + sign;
                digits(self);
            }
        }
        if self.rest().chars().next().is_some_and(super::cursor::is_word_start) {
            let end = self.rest().find(|c| !super::cursor::is_word(c)).unwrap_or(self.rest().len());
            let at = self.span(start, self.pos + end);
            return Err(self.fault(
                Diagnostic::error("bake::definition::bad_number", "a number is followed by letters")
                    .at(at, "neither a number nor a name")
                    .help("put quotes around it if it is a text"),
            ));
        }
        let text: Arc<str> = self.text[start..self.pos].into();
        Ok(Expr::new(ExprKind::Number(text), self.since(start)))
    }

    fn tuple(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        self.open(1, "list", "]");
        self.multiline += 1;
        self.skip_blanks();
        if self.is_for() {
            let kind = self.for_expr()?;
            self.multiline -= 1;
            return Ok(Expr::new(kind, self.since(start)));
        }
        let first = self.items.len();
        loop {
            self.skip_blanks();
            if self.peek() == b']' || self.at_end() {
                break;
            }
            let item = self.expression()?;
            self.items.push(item);
            self.skip_blanks();
            if self.peek() != b',' {
                break;
            }
            self.pos += 1;
        }
        self.close("`,` or ")?;
        self.multiline -= 1;
        let items = self.items.drain(first..).collect();
        Ok(Expr::new(ExprKind::Tuple(items), self.since(start)))
    }

    fn object(&mut self) -> HclResult<Expr> {
        let start = self.pos;
        self.open(1, "object", "}");
        let outer = std::mem::replace(&mut self.multiline, 1);
        self.skip_lines();
        if self.is_for() {
            let kind = self.for_expr()?;
            self.multiline = outer;
            return Ok(Expr::new(kind, self.since(start)));
        }
        let first = self.pairs.len();
        loop {
            self.skip_lines();
            if self.peek() == b'}' || self.at_end() {
                break;
            }
            let pair = self.object_item()?;
            self.pairs.push(pair);
            // Items end at a comma or at the end of the line.
            self.skip_blanks();
            match self.peek() {
                b',' => self.pos += 1,
                b'\n' | b'\r' => (),
                _ => break,
            }
        }
        self.multiline = 1;
        self.close("`,`, a new line or ")?;
        self.multiline = outer;
        let pairs = self.pairs.drain(first..).collect();
        Ok(Expr::new(ExprKind::Object(pairs), self.since(start)))
    }

    fn object_item(&mut self) -> HclResult<(Expr, Expr)> {
        self.multiline = 0;
        let key = self.expression()?;
        // A bare word is a name, not a variable; a variable stands in parentheses.
        let key = match key {
            Expr { kind: ExprKind::Variable(name), at } => Expr::text(name, at),
            Expr { kind: ExprKind::Bool(value), at } => Expr::text(if value { "true" } else { "false" }, at),
            Expr { kind: ExprKind::Null, at } => Expr::text("null", at),
            other => other,
        };
        self.skip_blanks();
        if !(self.peek() == b'=' && self.peek_at(1) != b'=') && self.peek() != b':' {
            return Err(self.expected("`=` after the key of an object"));
        }
        self.pos += 1;
        self.skip_blanks();
        let value = self.expression()?;
        Ok((key, value))
    }

    fn is_for(&self) -> bool {
        self.is_at_word("for")
    }

    fn for_expr(&mut self) -> HclResult<ExprKind> {
        let in_braces = self.open.last().is_some_and(|opened| opened.closer == "}");
        self.multiline = self.multiline.max(1);
        self.pos += "for".len();
        let (key, value, collection) = self.for_head()?;
        self.skip_blanks();
        if !self.eat(":") {
            return Err(self.expected("`:` after the collection of a `for`"));
        }
        self.skip_blanks();
        let first = self.expression()?;
        self.skip_blanks();
        let (mut result_key, mut result, mut group) = (None, first, false);
        if in_braces {
            if !self.eat("=>") {
                return Err(self.expected("`=>` between key and value of a `for` in braces"));
            }
            self.skip_blanks();
            let value = self.expression()?;
            result_key = Some(std::mem::replace(&mut result, value));
            self.skip_blanks();
            group = self.eat("...");
            self.skip_blanks();
        }
        let mut condition = None;
        if self.eat_word("if") {
            self.skip_blanks();
            condition = Some(self.expression()?);
            self.skip_blanks();
        }
        self.close("")?;
        Ok(ExprKind::For(Box::new(For { key, value, collection, result_key, result, condition, group })))
    }

    /// `key, value in collection`, after the word `for`.
    pub(super) fn for_head(&mut self) -> HclResult<(Option<Arc<str>>, Arc<str>, Expr)> {
        self.skip_blanks();
        let Some(first) = self.word() else {
            return Err(self.expected("the name of a variable after `for`"));
        };
        self.skip_blanks();
        let (mut key, mut value) = (None, first.value);
        if self.peek() == b',' {
            self.pos += 1;
            self.skip_blanks();
            let Some(second) = self.word() else {
                return Err(self.expected("the name of a second variable after `,`"));
            };
            key = Some(std::mem::replace(&mut value, second.value));
            self.skip_blanks();
        }
        if !self.eat_word("in") {
            return Err(self.expected("`in` after the variables of a `for`"));
        }
        self.skip_blanks();
        let collection = self.expression()?;
        Ok((key, value, collection))
    }
}
