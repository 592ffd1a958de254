//! What a built-in function is: its row, its parameters, what it sees of the world, and how it is called.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
    sync::Arc,
};

use sha2::Digest;

use crate::{
    definition::origin::DefinitionOrigin,
    eval::{
        input::{FileReader, Input},
        value::{
            convert::convert,
            number::Number,
            types::{MAX_WEIGHT, Type, Value},
        },
    },
};

/// The longest text, in bytes, that a function makes.
pub(super) const MAX_TEXT: usize = 64 << 20;
/// The most items that a function makes.
pub(super) const MAX_ITEMS: usize = 1 << 20;

/// One function of the bake language: a row of its family's table.
#[derive(Debug)]
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Param],
    pub(crate) variadic: Option<Param>,
    /// One line for the docs.
    #[cfg_attr(not(test), expect(dead_code, reason = "docs are written by tests"))]
    pub(crate) doc: &'static str,
    /// An extension that `docker buildx bake` does not have; a function of this name in a bake file takes precedence.
    pub(crate) is_ours: bool,
    pub(crate) run: fn(&FunctionCall<'_>) -> Result<Value, FunctionError>,
}

/// One parameter of a function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) ty: ParamType,
    pub(crate) null_ok: bool,
}

/// The type that arguments are converted to before the function is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParamType {
    Any,
    Bool,
    Number,
    String,
    /// `list(any)`: the items get one type.
    List,
    /// `list(string)`.
    Strings,
    /// `set(any)`.
    Set,
}

impl ParamType {
    fn to_type(self) -> Type {
        match self {
            Self::Any => Type::Dynamic,
            Self::Bool => Type::Bool,
            Self::Number => Type::Number,
            Self::String => Type::String,
            Self::List => Type::list(Type::Dynamic),
            Self::Strings => Type::list(Type::String),
            Self::Set => Type::set(Type::Dynamic),
        }
    }

    /// The name of the type as users write it, for signatures and messages.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Bool => "bool",
            Self::Number => "number",
            Self::String => "string",
            Self::List => "list",
            Self::Strings => "list(string)",
            Self::Set => "set",
        }
    }

    /// Whether the value already has this type.
    fn accepts(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Any, _)
            | (Self::Bool, Value::Bool(_))
            | (Self::Number, Value::Number(_))
            | (Self::String, Value::String(_))
            | (Self::List, Value::List { .. })
            | (Self::Set, Value::Set { .. }) => true,
            (Self::Strings, Value::List { element, .. }) => *element == Type::String,
            _ => false,
        }
    }
}

/// The parts of the world that functions may see: clock, random seed, environment, files.
#[derive(Debug)]
pub(crate) struct FunctionWorld {
    /// Seconds and nanoseconds since 1970.
    pub(super) now: (i64, u32),
    pub(super) random: [u8; 32],
    pub(super) home: String,
    pub(super) env: BTreeMap<String, String>,
    pub(super) files: Option<Arc<dyn FileReader>>,
    /// The definition is remote.
    pub(super) is_remote: bool,
    /// The folder that paths of the current call are relative to, if not the working directory.
    pub(super) folder: RefCell<Option<String>>,
    /// Where the file of the current call comes from.
    pub(super) origin: RefCell<DefinitionOrigin>,
    /// How many random values were drawn.
    drawn: Cell<u64>,
    /// Patterns compiled so far.
    pub(super) patterns: RefCell<HashMap<String, ::regex::Regex>>,
}

impl FunctionWorld {
    /// A world without environment and files. `now` is in seconds and nanoseconds since 1970.
    pub(crate) fn new(now: (i64, u32), random: [u8; 32], home: String) -> Self {
        Self {
            now,
            random,
            home,
            env: BTreeMap::new(),
            files: None,
            is_remote: false,
            folder: RefCell::default(),
            origin: RefCell::default(),
            drawn: Cell::new(0),
            patterns: RefCell::default(),
        }
    }

    /// The part of the evaluation input that functions may see.
    pub(crate) fn of(input: &Input) -> Self {
        Self {
            env: input.env.clone(),
            files: input.files.clone(),
            is_remote: input.remote.is_some(),
            ..Self::new(input.now, input.random, input.home.clone())
        }
    }

    /// Sets the folder that relative paths of the following calls are resolved against, and the origin of the file that
    /// has these calls.
    pub(crate) fn enter(&self, folder: Option<&str>, origin: DefinitionOrigin) {
        self.folder.replace(folder.map(str::to_owned));
        self.origin.replace(origin);
    }

    /// The reader of files for `file()` and the like.
    ///
    /// # Errors
    /// When this evaluation may see no files.
    pub(super) fn files(&self) -> Result<&dyn FileReader, FunctionError> {
        self.files.as_deref().ok_or_else(|| FunctionError::new("no files can be seen here"))
    }

    /// The next random bytes: a digest of the seed and a count, so that equal worlds draw equal bytes.
    pub(super) fn random_bytes(&self) -> [u8; 16] {
        let drawn = self.drawn.get();
        self.drawn.set(drawn.wrapping_add(1));
        let digest = sha2::Sha256::new().chain_update(self.random).chain_update(drawn.to_le_bytes()).finalize();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        bytes
    }
}

/// The arguments of one call, counted, converted and free of nulls where the parameter wants it so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FunctionCall<'a> {
    pub(crate) args: &'a [Value],
    pub(crate) world: &'a FunctionWorld,
}

/// Why a function call failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FunctionError {
    /// Which argument is at fault, from 0.
    pub(crate) argument: Option<usize>,
    pub(crate) message: String,
}

impl FunctionError {
    /// An error about the call as a whole.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { argument: None, message: message.into() }
    }

    /// An error about one argument, counted from 0.
    pub(crate) fn at(argument: usize, message: impl Into<String>) -> Self {
        Self { argument: Some(argument), message: message.into() }
    }
}

impl<'a> FunctionCall<'a> {
    /// The value of a `string` parameter.
    pub(super) fn text(&self, index: usize) -> &'a str {
        self.args[index].as_str().expect("the parameter is a string")
    }

    /// The value of a `number` parameter.
    pub(super) fn number(&self, index: usize) -> &'a Number {
        self.args[index].as_number().expect("the parameter is a number")
    }

    /// The value of a `bool` parameter.
    pub(super) fn bool(&self, index: usize) -> bool {
        self.args[index].as_bool().expect("the parameter is a bool")
    }

    /// The items of a `list` or `set` parameter.
    pub(super) fn items(&self, index: usize) -> &'a [Value] {
        self.args[index].items().expect("the parameter is a sequence")
    }

    /// A `number` parameter that must be whole and not absurdly large.
    pub(super) fn integer(&self, index: usize) -> Result<i64, FunctionError> {
        let number = self.number(index);
        number.to_i64().ok_or_else(|| FunctionError::at(index, format!("a whole number is required, got {number}")))
    }
}

/// Formats how a function is called: `join(separator string, lists list(string)...)`.
pub(crate) fn signature(builtin: &Builtin) -> String {
    let mut out = format!("{}(", builtin.name);
    for (i, param) in builtin.params.iter().chain(&builtin.variadic).enumerate() {
        let comma = if i > 0 { ", " } else { "" };
        write!(out, "{comma}{} {}", param.name, param.ty.word()).expect("writing to a string");
    }
    out.push_str(if builtin.variadic.is_some() { "...)" } else { ")" });
    out
}

/// Checks and converts the arguments, then runs the function.
pub(crate) fn call(builtin: &Builtin, args: &[Value], world: &FunctionWorld) -> Result<Value, FunctionError> {
    check_count(builtin, args.len())?;
    if args.iter().fold(0, |sum: u32, value| sum.saturating_add(value.weight())) > MAX_WEIGHT {
        return Err(FunctionError::new(format!("the arguments of `{}` are too large", builtin.name)));
    }
    let param = |index: usize| builtin.params.get(index).copied().or(builtin.variadic);
    let fits =
        |(index, value): (usize, &Value)| param(index).is_none_or(|param| !value.is_null() && param.ty.accepts(value));
    if args.iter().enumerate().all(fits) {
        return (builtin.run)(&FunctionCall { args, world });
    }
    let mut converted = Vec::with_capacity(args.len());
    for (index, value) in args.iter().enumerate() {
        let param = param(index).expect("the count was checked");
        if value.is_null() && !param.null_ok {
            return Err(FunctionError::at(index, format!("`{}` of `{}` must not be null", param.name, builtin.name)));
        }
        converted.push(if param.ty.accepts(value) {
            value.clone()
        } else {
            convert(value, &param.ty.to_type())
                .map_err(|error| FunctionError::at(index, format!("`{}` of `{}`: {error}", param.name, builtin.name)))?
        });
    }
    (builtin.run)(&FunctionCall { args: &converted, world })
}

fn check_count(builtin: &Builtin, given: usize) -> Result<(), FunctionError> {
    let wanted = builtin.params.len();
    let Builtin { name, .. } = builtin;
    let words = |n: usize| format!("{n} argument{}", if n == 1 { "" } else { "s" });
    if given < wanted {
        let missing = builtin.params[given].name;
        let least = if builtin.variadic.is_some() { "at least " } else { "" };
        return Err(FunctionError::new(format!(
            "`{name}` takes {least}{}, got {given}: `{missing}` is missing",
            words(wanted)
        )));
    }
    if given > wanted && builtin.variadic.is_none() {
        return Err(FunctionError::at(wanted, format!("`{name}` takes {}, got {given}", words(wanted))));
    }
    Ok(())
}

/// A parameter that takes no null.
pub(super) const fn param(name: &'static str, ty: ParamType) -> Param {
    Param { name, ty, null_ok: false }
}

/// A parameter that takes null too.
pub(super) const fn nullable(name: &'static str, ty: ParamType) -> Param {
    Param { name, ty, null_ok: true }
}

/// A row of a family table.
pub(super) const fn row(
    name: &'static str,
    params: &'static [Param],
    variadic: Option<Param>,
    doc: &'static str,
    run: fn(&FunctionCall<'_>) -> Result<Value, FunctionError>,
) -> Builtin {
    Builtin { name, params, variadic, doc, is_ours: false, run }
}

/// Marks a row as a function that the peer does not have.
pub(super) const fn ours(row: Builtin) -> Builtin {
    Builtin { is_ours: true, ..row }
}
