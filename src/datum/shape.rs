//! The shape of a serde type, as its `Deserialize` asks for it: what postcard reads, without any names.
//!
//! A type is shown to a deserializer that answers every question with an invented value and notes what was
//! asked. An enum is asked for once per variant, each time with the next variant that is not known whole.
//!
//! The answer is a tree. The same type gives the same tree in every program, so equal fingerprints mean that
//! both ends ask the same questions. Where a type refuses the invented values (text that has to be a URL,
//! say) the rest of that part stays unknown at both ends. A type that contains itself is noted twice and cut
//! off then.

use core::fmt;

use serde::de::value::U32Deserializer;
use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor,
};

use super::{Encoding, Fingerprint};
use crate::contain::contain;

/// Most parts of a tree; what is beyond stays unknown.
const MAX_PARTS: usize = 4_096;

/// Most questions that one pass answers. Only types that contain themselves come near.
const MAX_QUESTIONS: usize = 100_000;

/// Most passes over a type.
const MAX_PASSES: usize = 1_024;

/// Most types inside each other.
const MAX_DEPTH: usize = 100;

/// How often a type is noted inside itself before it is cut off.
const MAX_NESTED: usize = 2;

/// The invented values: a number, a text, and a length in bytes. A type that refuses one may take the next.
const SAMPLES: [(u8, &str, usize); 4] =
    [(1, "", 0), (0, "1", 16), (2, "http://a/", 32), (1, "1970-01-01T00:00:00Z", 4)];

/// What is known of one part of a type.
#[derive(Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    Unknown,
    /// A number, text, or another value without parts; the byte tells them apart.
    Leaf(u8),
    Option(Box<Shape>),
    Seq(Box<Shape>),
    Map(Box<(Shape, Shape)>),
    Tuple(Vec<Shape>),
    Enum(Vec<Variant>),
    /// A type inside itself.
    Again,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Variant {
    shape: Shape,
    /// Passes that failed in it.
    failures: usize,
}

impl Shape {
    /// Whether another pass would show nothing new.
    fn is_whole(&self) -> bool {
        match self {
            Self::Unknown => false,
            Self::Leaf(_) | Self::Again => true,
            Self::Option(part) | Self::Seq(part) => part.is_whole(),
            Self::Map(parts) => parts.0.is_whole() && parts.1.is_whole(),
            Self::Tuple(parts) => parts.iter().all(Self::is_whole),
            Self::Enum(variants) => variants.iter().all(Variant::is_done),
        }
    }

    fn write(&self, hasher: &mut blake3::Hasher) {
        let mut part = |kind: u8, count: usize| {
            hasher.update(&[kind]).update(&(count as u64).to_le_bytes());
        };
        match self {
            Self::Unknown => part(0, 0),
            Self::Leaf(kind) => part(1, usize::from(*kind)),
            Self::Option(_) => part(2, 1),
            Self::Seq(_) => part(3, 1),
            Self::Map(_) => part(4, 2),
            Self::Tuple(parts) => part(5, parts.len()),
            Self::Enum(variants) => part(6, variants.len()),
            Self::Again => part(7, 0),
        }
        match self {
            Self::Unknown | Self::Leaf(_) | Self::Again => {}
            Self::Option(part) | Self::Seq(part) => part.write(hasher),
            Self::Map(parts) => {
                parts.0.write(hasher);
                parts.1.write(hasher);
            }
            Self::Tuple(parts) => parts.iter().for_each(|part| part.write(hasher)),
            Self::Enum(variants) => variants.iter().for_each(|variant| variant.shape.write(hasher)),
        }
    }
}

impl Variant {
    fn is_done(&self) -> bool {
        self.failures >= SAMPLES.len() || self.shape.is_whole()
    }
}

/// What all parts of one pass share.
struct Pass {
    sample: usize,
    questions: usize,
    /// Parts noted, in all passes.
    parts: usize,
    /// The types that are being asked, outermost first.
    inside: Vec<&'static str>,
    /// Above 0: inside a type that is cut off. Nothing is noted, and containers are empty.
    closing: usize,
    /// The variants of enums within a type that is cut off: another one each time, so that it ends.
    turn: usize,
    /// An enum has noted the failure of this pass.
    blamed: bool,
    /// Something that postcard never reads.
    unreadable: Option<Encoding>,
}

/// Answers for one part of a type.
struct Tracer<'a> {
    shape: &'a mut Shape,
    pass: &'a mut Pass,
}

/// Ends a pass. The reason is in [`Pass`], or the type's own.
#[derive(Debug)]
struct Untraced;

impl fmt::Display for Untraced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an invented value was refused")
    }
}

impl core::error::Error for Untraced {}

impl de::Error for Untraced {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

/// The fingerprint of `T`'s shape, or why postcard can never read a `T`.
pub(super) fn of<T: de::DeserializeOwned>() -> (Fingerprint, Option<Encoding>) {
    let mut shape = Shape::default();
    let (mut failures, mut parts) = (0, 0);
    for _ in 0..MAX_PASSES {
        let mut pass = Pass {
            sample: failures,
            questions: 0,
            parts,
            inside: Vec::new(),
            closing: 0,
            turn: 0,
            blamed: false,
            unreadable: None,
        };
        let tracer = Tracer { shape: &mut shape, pass: &mut pass };
        let read = contain(|| T::deserialize(tracer).map(drop)).unwrap_or(Err(Untraced));
        let before = core::mem::replace(&mut parts, pass.parts);
        if pass.unreadable.is_some() {
            return (fingerprint(&shape), pass.unreadable);
        }
        let blamed = pass.blamed;
        failures += usize::from(read.is_err() && !blamed);
        let stuck = read.is_ok() && parts == before;
        if shape.is_whole() || stuck || failures == SAMPLES.len() {
            break;
        }
    }
    (fingerprint(&shape), None)
}

fn fingerprint(shape: &Shape) -> Fingerprint {
    let mut hasher = blake3::Hasher::new_derive_key("corewire 2026 postcard shape");
    shape.write(&mut hasher);
    Fingerprint::from_hash(&hasher.finalize())
}

impl Tracer<'_> {
    /// Notes what the part is, if nothing is known yet, and counts the question.
    fn note(&mut self, new: impl FnOnce() -> Shape) -> Result<(), Untraced> {
        self.pass.questions += 1;
        if self.pass.questions > MAX_QUESTIONS {
            return Err(Untraced);
        }
        if self.pass.closing == 0 && *self.shape == Shape::Unknown && self.pass.parts < MAX_PARTS {
            self.pass.parts += 1;
            *self.shape = new();
        }
        Ok(())
    }

    fn leaf(&mut self, kind: u8) -> Result<u8, Untraced> {
        self.note(|| Shape::Leaf(kind))?;
        Ok(SAMPLES[self.pass.sample].0)
    }

    /// Answers for a type with a name, which may contain itself.
    fn named<R>(
        self,
        name: &'static str,
        answer: impl FnOnce(Tracer<'_>) -> Result<R, Untraced>,
    ) -> Result<R, Untraced> {
        let pass = self.pass;
        if pass.inside.len() > MAX_DEPTH {
            return Err(Untraced);
        }
        let again = pass.inside.iter().filter(|outer| **outer == name).count() >= MAX_NESTED;
        if again && pass.closing == 0 && *self.shape == Shape::Unknown {
            *self.shape = Shape::Again;
        }
        pass.inside.push(name);
        pass.closing += usize::from(again);
        let result = answer(Tracer { shape: self.shape, pass });
        pass.closing -= usize::from(again);
        pass.inside.pop();
        result
    }

    fn unreadable<R>(self, why: Encoding) -> Result<R, Untraced> {
        self.pass.unreadable.get_or_insert(why);
        Err(Untraced)
    }

    /// Values that follow each other: `count` of them, each with its own shape.
    fn tuple<'de, V: Visitor<'de>>(mut self, count: usize, visitor: V) -> Result<V::Value, Untraced> {
        let fits = count <= MAX_PARTS;
        self.note(|| Shape::Tuple((0..if fits { count } else { 0 }).map(|_| Shape::Unknown).collect()))?;
        let parts = match self.shape {
            Shape::Tuple(parts) => &mut parts[..],
            _ => &mut [],
        };
        visitor.visit_seq(Parts { parts, next: 0, count, pass: self.pass })
    }
}

macro_rules! leaves {
    ($($method:ident, $visit:ident, $kind:literal, $type:ty;)*) => {
        $(fn $method<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Untraced> {
            let sample = self.leaf($kind)?;
            visitor.$visit(<$type>::from(sample))
        })*
    };
}

impl<'de> Deserializer<'de> for Tracer<'_> {
    type Error = Untraced;

    leaves! {
        deserialize_i16, visit_i16, 2, i16;
        deserialize_i32, visit_i32, 3, i32;
        deserialize_i64, visit_i64, 4, i64;
        deserialize_i128, visit_i128, 5, i128;
        deserialize_u8, visit_u8, 6, u8;
        deserialize_u16, visit_u16, 7, u16;
        deserialize_u32, visit_u32, 8, u32;
        deserialize_u64, visit_u64, 9, u64;
        deserialize_u128, visit_u128, 10, u128;
        deserialize_f32, visit_f32, 11, f32;
        deserialize_f64, visit_f64, 12, f64;
        deserialize_char, visit_char, 13, char;
    }

    fn deserialize_i8<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Untraced> {
        let sample = self.leaf(1)?;
        visitor.visit_i8(sample as i8)
    }

    fn deserialize_bool<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Untraced> {
        let sample = self.leaf(14)?;
        visitor.visit_bool(sample != 0)
    }

    fn deserialize_str<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Untraced> {
        self.leaf(15)?;
        visitor.visit_str(SAMPLES[self.pass.sample].1)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untraced> {
        self.deserialize_str(visitor)
    }

    /// As a sequence of `u8`, which has the same bytes.
    fn deserialize_bytes<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Untraced> {
        self.note(|| Shape::Seq(Box::new(Shape::Leaf(6))))?;
        visitor.visit_bytes(&[1; 32][..SAMPLES[self.pass.sample].2])
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Untraced> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Untraced> {
        self.note(|| Shape::Option(Box::default()))?;
        match self.shape {
            Shape::Option(part) if self.pass.closing == 0 => {
                visitor.visit_some(Tracer { shape: part, pass: self.pass })
            }
            _ => visitor.visit_none(),
        }
    }

    fn deserialize_unit<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Untraced> {
        self.note(|| Shape::Tuple(Vec::new()))?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Untraced> {
        self.deserialize_unit(visitor)
    }

    /// Has the shape of what it wraps.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Untraced> {
        self.named(name, |inner| visitor.visit_newtype_struct(inner))
    }

    fn deserialize_seq<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Untraced> {
        self.note(|| Shape::Seq(Box::default()))?;
        let parts = match self.shape {
            Shape::Seq(part) if self.pass.closing == 0 => core::slice::from_mut(&mut **part),
            _ => &mut [],
        };
        let count = parts.len();
        visitor.visit_seq(Parts { parts, next: 0, count, pass: self.pass })
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Untraced> {
        self.tuple(count, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        count: usize,
        visitor: V,
    ) -> Result<V::Value, Untraced> {
        self.named(name, |inner| inner.tuple(count, visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(mut self, visitor: V) -> Result<V::Value, Untraced> {
        self.note(|| Shape::Map(Box::default()))?;
        let parts = match self.shape {
            Shape::Map(parts) if self.pass.closing == 0 => Some(&mut **parts),
            _ => None,
        };
        visitor.visit_map(SampleEntry { parts, read: false, pass: self.pass })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Untraced> {
        self.named(name, |inner| inner.tuple(fields.len(), visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Untraced> {
        self.named(name, |inner| inner.variant(variants.len(), visitor))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Untraced> {
        self.unreadable(Encoding::NotDescribed)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Untraced> {
        self.unreadable(Encoding::NotDescribed)
    }

    /// Only structs that are written as maps ask for the name of a field.
    fn deserialize_identifier<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Untraced> {
        self.unreadable(Encoding::Flattened)
    }

    fn is_human_readable(&self) -> bool {
        false
    }
}

impl Tracer<'_> {
    /// One variant of an enum: the next that is not known whole.
    fn variant<'de, V: Visitor<'de>>(mut self, count: usize, visitor: V) -> Result<V::Value, Untraced> {
        self.note(|| Shape::Enum((0..count.min(MAX_PARTS)).map(|_| Variant::default()).collect()))?;
        let (pass, mut unnoted) = (self.pass, Shape::Unknown);
        let variants = match self.shape {
            Shape::Enum(variants) if pass.closing == 0 => &mut variants[..],
            _ => &mut [],
        };
        let next = variants.iter().position(|variant| !variant.is_done());
        let usable = || variants.iter().position(|variant| variant.failures < SAMPLES.len());
        let Some(index) = next.or_else(usable) else {
            pass.turn += 1;
            let index = (pass.turn - 1) % count.max(1);
            return visitor.visit_enum(Chosen { index, tracer: Tracer { shape: &mut unnoted, pass } });
        };
        let variant = &mut variants[index];
        let outer = core::mem::replace(&mut pass.sample, variant.failures);
        let shape = &mut variant.shape;
        let read = visitor.visit_enum(Chosen { index, tracer: Tracer { shape, pass: &mut *pass } });
        pass.sample = outer;
        if read.is_err() && !core::mem::replace(&mut pass.blamed, true) {
            variant.failures += 1;
        }
        read
    }
}

/// Values that follow each other.
struct Parts<'a> {
    parts: &'a mut [Shape],
    next: usize,
    count: usize,
    pass: &'a mut Pass,
}

impl<'de> SeqAccess<'de> for Parts<'_> {
    type Error = Untraced;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Untraced> {
        if self.next == self.count {
            return Ok(None);
        }
        let mut unnoted = Shape::Unknown;
        let shape = self.parts.get_mut(self.next).unwrap_or(&mut unnoted);
        self.next += 1;
        seed.deserialize(Tracer { shape, pass: self.pass }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.count - self.next)
    }
}

/// A map of one entry, or of none.
struct SampleEntry<'a> {
    parts: Option<&'a mut (Shape, Shape)>,
    read: bool,
    pass: &'a mut Pass,
}

impl<'de> MapAccess<'de> for SampleEntry<'_> {
    type Error = Untraced;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Untraced> {
        match &mut self.parts {
            Some((key, _)) if !self.read => {
                self.read = true;
                seed.deserialize(Tracer { shape: key, pass: self.pass }).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Untraced> {
        let Some((_, value)) = &mut self.parts else { return Err(Untraced) };
        seed.deserialize(Tracer { shape: value, pass: self.pass })
    }
}

/// The variant that an enum is asked for.
struct Chosen<'a> {
    index: usize,
    tracer: Tracer<'a>,
}

impl<'a, 'de> EnumAccess<'de> for Chosen<'a> {
    type Error = Untraced;
    type Variant = Tracer<'a>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Tracer<'a>), Untraced> {
        let index = u32::try_from(self.index).map_err(|_| Untraced)?;
        Ok((seed.deserialize(U32Deserializer::new(index))?, self.tracer))
    }
}

impl<'de> VariantAccess<'de> for Tracer<'_> {
    type Error = Untraced;

    fn unit_variant(mut self) -> Result<(), Untraced> {
        self.note(|| Shape::Tuple(Vec::new()))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Untraced> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, count: usize, visitor: V) -> Result<V::Value, Untraced> {
        self.tuple(count, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Untraced> {
        self.tuple(fields.len(), visitor)
    }
}

#[cfg(test)]
mod tests;
