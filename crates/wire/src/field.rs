//! A field of a message: its attribute, and the code that writes and reads it.

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Attribute, Ident, LitStr, Path};

pub struct Field {
    pub tags: Vec<u32>,
    kind: Kind,
    label: Label,
}

enum Kind {
    /// `uint32` and `uint64`: any type that implements `wire::Number`.
    Number,
    /// Another scalar, by the name of prost's module for it.
    Scalar(Ident),
    Message,
    Oneof(Path),
}

#[derive(Clone, Copy, PartialEq)]
enum Label {
    /// A default value is left out.
    Plain,
    Optional,
    /// Written in any case.
    Required,
    Repeated,
}

impl Field {
    /// # Errors
    /// The attribute is missing, or has something that these derives do not know.
    pub fn parse(message: &Ident, attributes: &[Attribute]) -> syn::Result<Field> {
        let (mut tags, mut kind, mut label) = (Vec::new(), None, Label::Plain);
        for attribute in attributes.iter().filter(|a| a.path().is_ident("prost")) {
            attribute.parse_nested_meta(|meta| {
                let name = meta.path.require_ident()?.clone();
                match name.to_string().as_str() {
                    "tag" | "tags" => {
                        let text: LitStr = meta.value()?.parse()?;
                        for tag in text.value().split(',') {
                            tags.push(tag.trim().parse().map_err(|_| meta.error("a tag is a number"))?);
                        }
                    }
                    "oneof" => kind = Some(Kind::Oneof(meta.value()?.parse::<LitStr>()?.parse()?)),
                    "uint32" | "uint64" => kind = Some(Kind::Number),
                    "bool" | "string" | "fixed32" | "fixed64" => kind = Some(Kind::Scalar(name)),
                    "bytes" => {
                        meta.value()?.parse::<LitStr>()?;
                        kind = Some(Kind::Scalar(name));
                    }
                    "message" => kind = Some(Kind::Message),
                    "optional" => label = Label::Optional,
                    "required" => label = Label::Required,
                    "repeated" => label = Label::Repeated,
                    _ => return Err(meta.error("not known here; prost's own derive may know it")),
                }
                Ok(())
            })?;
        }
        match kind {
            Some(kind) if !tags.is_empty() => Ok(Field { tags, kind, label }),
            _ => Err(syn::Error::new_spanned(message, "a field lacks its kind or its tag")),
        }
    }

    /// The same field, written even where its value is the default: a variant of a oneof.
    pub fn always(self) -> Field {
        Field { label: Label::Required, ..self }
    }

    fn module(&self) -> TokenStream {
        match &self.kind {
            Kind::Number => quote!(crate::wire::number),
            Kind::Scalar(name) => quote!(::prost::encoding::#name),
            Kind::Message | Kind::Oneof(_) => quote!(::prost::encoding::message),
        }
    }

    /// Whether several values lie in one block without tags between them.
    fn packed(&self) -> bool {
        match &self.kind {
            Kind::Number => true,
            Kind::Scalar(name) => name != "string" && name != "bytes",
            Kind::Message | Kind::Oneof(_) => false,
        }
    }

    /// Statements that write the field `value` into `buf`.
    pub fn encode(&self, value: &TokenStream) -> TokenStream {
        let (module, tag) = (self.module(), self.tags[0]);
        if let Kind::Oneof(_) = self.kind {
            return quote!(if let ::core::option::Option::Some(one) = &#value { one.encode(buf); });
        }
        match self.label {
            Label::Plain if matches!(self.kind, Kind::Message) => quote!(#module::encode(#tag, &#value, buf);),
            Label::Plain => quote!(if !crate::wire::is_default(&#value) { #module::encode(#tag, &#value, buf); }),
            Label::Required => quote!(#module::encode(#tag, &#value, buf);),
            Label::Optional => {
                quote!(if let ::core::option::Option::Some(one) = &#value { #module::encode(#tag, one, buf); })
            }
            Label::Repeated if self.packed() => quote!(#module::encode_packed(#tag, &#value, buf);),
            Label::Repeated => quote!(#module::encode_repeated(#tag, &#value, buf);),
        }
    }

    /// The bytes that [`Field::encode`] writes.
    pub fn encoded_len(&self, value: &TokenStream) -> TokenStream {
        let (module, tag) = (self.module(), self.tags[0]);
        if let Kind::Oneof(path) = &self.kind {
            return quote!(#value.as_ref().map_or(0, #path::encoded_len));
        }
        match self.label {
            Label::Plain if matches!(self.kind, Kind::Message) => quote!(#module::encoded_len(#tag, &#value)),
            Label::Plain => {
                quote!(if crate::wire::is_default(&#value) { 0 } else { #module::encoded_len(#tag, &#value) })
            }
            Label::Required => quote!(#module::encoded_len(#tag, &#value)),
            Label::Optional => quote!(#value.as_ref().map_or(0, |one| #module::encoded_len(#tag, one))),
            Label::Repeated if self.packed() => quote!(#module::encoded_len_packed(#tag, &#value)),
            Label::Repeated => quote!(#module::encoded_len_repeated(#tag, &#value)),
        }
    }

    /// An expression that reads into `value`, the field by a mutable reference.
    pub fn merge(&self) -> TokenStream {
        let module = self.module();
        if let Kind::Oneof(path) = &self.kind {
            return quote!(#path::merge(value, tag, wire_type, buf, ctx));
        }
        match self.label {
            Label::Plain | Label::Required => quote!(#module::merge(wire_type, value, buf, ctx)),
            Label::Optional => quote! {
                #module::merge(
                    wire_type,
                    value.get_or_insert_with(::core::default::Default::default),
                    buf,
                    ctx,
                )
            },
            Label::Repeated => quote!(#module::merge_repeated(wire_type, value, buf, ctx)),
        }
    }
}
