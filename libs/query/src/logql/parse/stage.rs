//! What stands behind a `|`.

use super::super::ast::{Extraction, LabelChoice, LabelFormat, Matcher, Stage};
use super::token::Kind;
use super::{ParseError, Parser};

impl Parser<'_> {
    /// A stage other than a line filter, without its `|`.
    pub(super) fn named_stage(&mut self) -> Result<Stage, ParseError> {
        if let Some(stage) = self.extension_stage()? {
            return Ok(stage);
        }
        let word = match *self.kind() {
            Kind::Word(word) if word != "(" => word,
            _ => return Ok(Stage::LabelFilter(self.label_filter(false)?)),
        };
        let stage: fn(&mut Self) -> Result<Stage, ParseError> = match word {
            "json" => |p| Ok(Stage::Json(p.extractions()?)),
            "logfmt" => Self::logfmt,
            "regexp" => |p| Ok(Stage::Regexp(p.string(&["STRING"])?)),
            "pattern" => |p| Ok(Stage::Pattern(p.string(&["STRING"])?)),
            "unpack" => |_| Ok(Stage::Unpack),
            "line_format" => |p| Ok(Stage::LineFormat(p.string(&["STRING"])?)),
            "label_format" => |p| Ok(Stage::LabelFormat(p.listed(Self::label_format)?)),
            "decolorize" => |_| Ok(Stage::Decolorize),
            "drop" => |p| Ok(Stage::Drop(p.listed(Self::label_choice)?)),
            "keep" => |p| Ok(Stage::Keep(p.listed(Self::label_choice)?)),
            _ => return Err(self.unexpected(&[])),
        };
        self.advance();
        stage(self)
    }

    /// `distinct a, b`, `dedup a`, `sort by (a) desc`: in Loki a name can only be followed by a
    /// comparison here.
    fn extension_stage(&mut self) -> Result<Option<Stage>, ParseError> {
        let next = &self.token_after(1).kind;
        match self.raw() {
            "distinct" | "dedup" if *next == Kind::Identifier => {
                self.advance();
                let labels = self.listed(|p| p.identifier(&["IDENTIFIER"]))?;
                Ok(Some(Stage::Distinct(labels)))
            }
            "sort" if *next == Kind::Word("by") => {
                self.at += 2;
                self.expect("(")?;
                let by = self.names_until_parenthesis()?;
                if by.is_empty() {
                    self.note("sort needs at least one label: | sort by (label)");
                }
                let descending = self.raw() == "desc" && *self.kind() == Kind::Identifier;
                if descending || (self.raw() == "asc" && *self.kind() == Kind::Identifier) {
                    self.advance();
                }
                Ok(Some(Stage::Sort { by, descending }))
            }
            _ => Ok(None),
        }
    }

    /// `item, item, ...`, at least one.
    fn listed<T>(
        &mut self,
        item: fn(&mut Self) -> Result<T, ParseError>,
    ) -> Result<Vec<T>, ParseError> {
        let mut items = vec![item(self)?];
        while self.take(",") {
            items.push(item(self)?);
        }
        Ok(items)
    }

    /// The parameters of `json` and `logfmt`; there may be none.
    fn extractions(&mut self) -> Result<Vec<Extraction>, ParseError> {
        match self.kind() {
            Kind::Identifier => self.listed(Self::extraction),
            _ => Ok(Vec::new()),
        }
    }

    fn extraction(&mut self) -> Result<Extraction, ParseError> {
        let label = self.identifier(&["IDENTIFIER"])?;
        let path = if self.take("=") {
            self.string(&["STRING"])?
        } else {
            label.clone()
        };
        Ok(Extraction { label, path })
    }

    fn logfmt(&mut self) -> Result<Stage, ParseError> {
        let (mut strict, mut keep_empty) = (false, false);
        while *self.kind() == Kind::Flag {
            match self.raw() {
                "--strict" => strict = true,
                _ => keep_empty = true,
            }
            self.advance();
        }
        let fields = self.extractions()?;
        Ok(Stage::Logfmt {
            strict,
            keep_empty,
            fields,
        })
    }

    fn label_format(&mut self) -> Result<LabelFormat, ParseError> {
        let to = self.identifier(&["IDENTIFIER"])?;
        self.expect("=")?;
        if *self.kind() == Kind::Identifier {
            let from = self.raw().to_owned();
            self.advance();
            return Ok(LabelFormat::Rename { to, from });
        }
        let template = self.string(&["IDENTIFIER", "STRING"])?;
        Ok(LabelFormat::Template { to, template })
    }

    fn label_choice(&mut self) -> Result<LabelChoice, ParseError> {
        let name = self.identifier(&["IDENTIFIER"])?;
        let Some(op) = self.match_op() else {
            return Ok(LabelChoice::Name(name));
        };
        self.advance();
        let value = self.string(&["STRING"])?;
        let matcher = Matcher { name, op, value };
        self.check_matcher(&matcher)?;
        Ok(LabelChoice::Matcher(matcher))
    }
}
