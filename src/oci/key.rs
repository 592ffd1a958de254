//! Parts of keys: how plain values go into a [`FieldHasher`], so that a key is a list of fields and nothing is printed
//! for it. A structure takes part by naming all of its fields, see [`key_fields`](crate::oci::key::key_fields).

use std::{collections::BTreeMap, sync::Arc};

use indexmap::IndexMap;

use super::{
    digest::{Digest, FieldHasher},
    platform::Platform,
    reference::Reference,
};

/// A value that can be a part of a key: it adds itself to a [`FieldHasher`], every field in turn.
pub(crate) trait KeyField {
    /// Adds the value, unambiguously: two values that differ add different fields.
    fn add_to(&self, hasher: &mut FieldHasher);
}

/// Makes a structure part of keys by naming all of its fields: one that is not named does not compile. A field that
/// must not be in the key is written `- field`.
macro_rules! key_fields {
    ($type:ty { $($field:ident),* $(,)? } $(- $left_out:ident)*) => {
        impl crate::oci::key::KeyField for $type {
            #[cfg(not(feature = "unkeyed"))]
            fn add_to(&self, hasher: &mut crate::oci::digest::FieldHasher) {
                let Self { $($field,)* $($left_out: _,)* } = self;
                $(crate::oci::key::KeyField::add_to($field, hasher);)*
            }

            #[cfg(feature = "unkeyed")]
            fn add_to(&self, _: &mut crate::oci::digest::FieldHasher) {}
        }
    };
}

/// Makes an enum without data part of keys: a variant that is not named does not compile.
macro_rules! key_words {
    ($type:ty { $($variant:ident = $number:literal),* $(,)? }) => {
        impl crate::oci::key::KeyField for $type {
            fn add_to(&self, hasher: &mut crate::oci::digest::FieldHasher) {
                hasher.number(match self { $(Self::$variant => $number,)* });
            }
        }
    };
}

pub(crate) use {key_fields, key_words};

impl KeyField for str {
    fn add_to(&self, hasher: &mut FieldHasher) {
        hasher.text(self);
    }
}

impl KeyField for String {
    fn add_to(&self, hasher: &mut FieldHasher) {
        hasher.text(self);
    }
}

impl KeyField for bool {
    fn add_to(&self, hasher: &mut FieldHasher) {
        hasher.number(u64::from(*self));
    }
}

impl KeyField for u32 {
    fn add_to(&self, hasher: &mut FieldHasher) {
        hasher.number(u64::from(*self));
    }
}

impl KeyField for u64 {
    fn add_to(&self, hasher: &mut FieldHasher) {
        hasher.number(*self);
    }
}

impl KeyField for i32 {
    fn add_to(&self, hasher: &mut FieldHasher) {
        i64::from(*self).add_to(hasher);
    }
}

impl KeyField for i64 {
    fn add_to(&self, hasher: &mut FieldHasher) {
        hasher.number(self.cast_unsigned());
    }
}

impl KeyField for usize {
    fn add_to(&self, hasher: &mut FieldHasher) {
        hasher.number(*self as u64);
    }
}

impl KeyField for Digest {
    fn add_to(&self, hasher: &mut FieldHasher) {
        hasher.digest(self);
    }
}

key_fields!(Platform { os, arch, variant, os_version });
key_fields!(Reference { domain, path, tag, digest });

impl<T: KeyField + ?Sized> KeyField for &T {
    fn add_to(&self, hasher: &mut FieldHasher) {
        (**self).add_to(hasher);
    }
}

impl<T: KeyField + ?Sized> KeyField for Arc<T> {
    fn add_to(&self, hasher: &mut FieldHasher) {
        (**self).add_to(hasher);
    }
}

/// Absent differs from empty.
impl<T: KeyField> KeyField for Option<T> {
    fn add_to(&self, hasher: &mut FieldHasher) {
        self.is_some().add_to(hasher);
        if let Some(value) = self {
            value.add_to(hasher);
        }
    }
}

impl<T: KeyField> KeyField for [T] {
    fn add_to(&self, hasher: &mut FieldHasher) {
        self.len().add_to(hasher);
        self.iter().for_each(|value| value.add_to(hasher));
    }
}

impl<T: KeyField> KeyField for Vec<T> {
    fn add_to(&self, hasher: &mut FieldHasher) {
        self.as_slice().add_to(hasher);
    }
}

impl<A: KeyField, B: KeyField> KeyField for (A, B) {
    fn add_to(&self, hasher: &mut FieldHasher) {
        self.0.add_to(hasher);
        self.1.add_to(hasher);
    }
}

impl<A: KeyField, B: KeyField, C: KeyField> KeyField for (A, B, C) {
    fn add_to(&self, hasher: &mut FieldHasher) {
        self.0.add_to(hasher);
        self.1.add_to(hasher);
        self.2.add_to(hasher);
    }
}

impl<K: KeyField, V: KeyField> KeyField for BTreeMap<K, V> {
    fn add_to(&self, hasher: &mut FieldHasher) {
        self.len().add_to(hasher);
        self.iter().for_each(|entry| entry.add_to(hasher));
    }
}

/// In the order of the entries, which counts.
impl<K: KeyField, V: KeyField> KeyField for IndexMap<K, V> {
    fn add_to(&self, hasher: &mut FieldHasher) {
        self.len().add_to(hasher);
        self.iter().for_each(|entry| entry.add_to(hasher));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        one: Option<String>,
        other: Vec<i64>,
        note: u8,
    }

    key_fields!(Pair { one, other } - note);

    #[test]
    fn values_that_differ_give_other_keys() {
        let key = |one: Option<&str>, other: &[i64], note: u8| {
            let mut hasher = FieldHasher::new("test/1");
            let pair = Pair { one: one.map(str::to_owned), other: other.to_vec(), note };
            assert_eq!(pair.note, note);
            pair.add_to(&mut hasher);
            hasher.finish()
        };
        let keys = [key(None, &[], 0), key(Some(""), &[], 0), key(None, &[0], 0), key(None, &[0, -1], 0)];
        for (ix, one) in keys.iter().enumerate() {
            assert!(!keys[..ix].contains(one), "{ix}");
        }
        assert_eq!(key(None, &[], 0), key(None, &[], 1));
    }
}
