//! `#[derive(Message)]` and `#[derive(Oneof)]` for messages whose numbers have types of their own.
//!
//! prost's derives know `u32` and `u64` only, and would make every id of a message a bare number. These take the same
//! attributes and write the same bytes; a field of the kinds `uint32` and `uint64` may be of any type that implements
//! `wire::Number` of the crate that derives, and a default value is left out as with prost.

#![warn(missing_docs)]

mod field;

use field::Field;
use proc_macro::TokenStream;
use quote::quote;
use syn::{parse_macro_input, Data, DeriveInput, Fields};

/// Implements `prost::Message`, `Default` and `Debug` for a struct with named fields, each with prost's attribute.
#[proc_macro_derive(Message, attributes(prost))]
pub fn message(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    try_message(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Implements what prost expects of an enum whose variants exclude one another, each with one field.
#[proc_macro_derive(Oneof, attributes(prost))]
pub fn oneof(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    try_oneof(&input).unwrap_or_else(syn::Error::into_compile_error).into()
}

fn try_message(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let name = &input.ident;
    let Data::Struct(data) = &input.data else {
        return Err(syn::Error::new_spanned(name, "Message is for structs"));
    };
    if matches!(data.fields, Fields::Unnamed(_)) {
        return Err(syn::Error::new_spanned(name, "the fields of a message have names"));
    }
    let declared: Vec<_> = data.fields.iter().filter_map(|f| f.ident.as_ref()).collect();
    let mut fields =
        data.fields.iter().map(|f| Ok((&f.ident, Field::parse(name, &f.attrs)?))).collect::<syn::Result<Vec<_>>>()?;
    // prost writes fields in the order of their tags, whatever their order in the struct.
    fields.sort_by_key(|(_, f)| f.tags.iter().min().copied());
    let mut tags: Vec<u32> = fields.iter().flat_map(|(_, f)| &f.tags).copied().collect();
    tags.sort_unstable();
    if tags.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(syn::Error::new_spanned(name, "two fields have the same tag"));
    }
    let encode = fields.iter().map(|(ident, f)| f.encode(&quote!(self.#ident)));
    let length = fields.iter().map(|(ident, f)| f.encoded_len(&quote!(self.#ident)));
    let merge = fields.iter().map(|(ident, f)| {
        let (tags, merge) = (&f.tags, f.merge());
        quote! {
            #(#tags)|* => {
                let value = &mut self.#ident;
                #merge.map_err(|mut error| {
                    error.push(stringify!(#name), stringify!(#ident));
                    error
                })
            }
        }
    });
    Ok(quote! {
        impl ::prost::Message for #name {
            #[allow(unused_variables)]
            fn encode_raw(&self, buf: &mut impl ::prost::bytes::BufMut) {
                #(#encode)*
            }
            #[allow(unused_variables)]
            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: ::prost::encoding::WireType,
                buf: &mut impl ::prost::bytes::Buf,
                ctx: ::prost::encoding::DecodeContext,
            ) -> ::core::result::Result<(), ::prost::DecodeError> {
                match tag {
                    #(#merge)*
                    _ => ::prost::encoding::skip_field(wire_type, tag, buf, ctx),
                }
            }
            #[inline]
            fn encoded_len(&self) -> usize {
                0 #(+ #length)*
            }
            fn clear(&mut self) {
                *self = ::core::default::Default::default();
            }
        }
        impl ::core::default::Default for #name {
            fn default() -> Self {
                #name { #(#declared: ::core::default::Default::default(),)* }
            }
        }
        impl ::core::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(stringify!(#name))#(.field(stringify!(#declared), &self.#declared))*.finish()
            }
        }
    })
}

fn try_oneof(input: &DeriveInput) -> syn::Result<proc_macro2::TokenStream> {
    let name = &input.ident;
    let Data::Enum(data) = &input.data else {
        return Err(syn::Error::new_spanned(name, "Oneof is for enums"));
    };
    let (mut encode, mut length, mut merge, mut debug) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for variant in &data.variants {
        let ident = &variant.ident;
        let field = Field::parse(name, &variant.attrs)?.always();
        let [tag] = field.tags[..] else {
            return Err(syn::Error::new_spanned(ident, "a variant has one tag"));
        };
        let (put, len, read) = (field.encode(&quote!(*value)), field.encoded_len(&quote!(*value)), field.merge());
        encode.push(quote!(#name::#ident(value) => { #put }));
        length.push(quote!(#name::#ident(value) => #len));
        debug.push(quote!(#name::#ident(value) => f.debug_tuple(stringify!(#ident)).field(value).finish()));
        merge.push(quote! {
            #tag => {
                // Two messages of the same kind are merged, as protobuf has it; anything else replaces what was there.
                if !::core::matches!(field, ::core::option::Option::Some(#name::#ident(_))) {
                    let mut first = ::core::default::Default::default();
                    let value = &mut first;
                    #read?;
                    *field = ::core::option::Option::Some(#name::#ident(first));
                } else if let ::core::option::Option::Some(#name::#ident(value)) = field {
                    #read?;
                }
                ::core::result::Result::Ok(())
            }
        });
    }
    Ok(quote! {
        impl #name {
            /// Encodes the variant with its tag.
            pub fn encode(&self, buf: &mut impl ::prost::bytes::BufMut) {
                match self { #(#encode)* }
            }
            /// Reads the variant with this tag; the message that holds the enum passes on its own tags only.
            ///
            /// # Errors
            /// The bytes are no value of the variant's kind.
            pub fn merge(
                field: &mut ::core::option::Option<#name>,
                tag: u32,
                wire_type: ::prost::encoding::WireType,
                buf: &mut impl ::prost::bytes::Buf,
                ctx: ::prost::encoding::DecodeContext,
            ) -> ::core::result::Result<(), ::prost::DecodeError> {
                match tag {
                    #(#merge)*
                    _ => unreachable!(concat!("invalid ", stringify!(#name), " tag: {}"), tag),
                }
            }
            /// Bytes of the variant with its tag.
            #[inline]
            pub fn encoded_len(&self) -> usize {
                match self { #(#length,)* }
            }
        }
        impl ::core::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                match self { #(#debug,)* }
            }
        }
    })
}
