//! What one Rust file declares, imports and names.

use proc_macro2::{TokenStream, TokenTree};
use syn::{
    Attribute, ImplItem, Item, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A part of a file, with the inline modules that it is in.
#[derive(Debug)]
pub struct Within<T> {
    pub inline: Vec<String>,
    pub line: usize,
    pub what: T,
}

#[derive(Debug)]
pub struct Module {
    pub name: String,
    /// The value of `#[path = "…"]`.
    pub path: Option<String>,
    pub has_body: bool,
}

#[derive(Debug)]
pub struct Use {
    pub path: Vec<String>,
    /// `None` for `*`.
    pub name: Option<String>,
    pub public: bool,
}

/// Declarations and names outside of test code.
#[derive(Debug, Default)]
pub struct Parsed {
    pub modules: Vec<Within<Module>>,
    pub uses: Vec<Within<Use>>,
    /// Paths of two or more segments, in code and in the arguments of macros.
    pub paths: Vec<Within<Vec<String>>>,
    pub items: Vec<Within<String>>,
    inline: Vec<String>,
}

impl Parsed {
    pub fn of(text: &str) -> Result<Self, syn::Error> {
        let mut parsed = Self::default();
        syn::parse_file(text)?.items.iter().for_each(|item| parsed.visit_item(item));
        Ok(parsed)
    }

    fn within<T>(&self, spanned: &impl Spanned, what: T) -> Within<T> {
        Within { inline: self.inline.clone(), line: spanned.span().start().line, what }
    }

    fn add_uses(&mut self, tree: &UseTree, before: &[String], public: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (path, name) = match tree {
            UseTree::Path(path) => return self.add_uses(&path.tree, &with(&path.ident), public),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|tree| self.add_uses(tree, before, public));
            }
            UseTree::Glob(_) => (before.to_vec(), None),
            UseTree::Name(name) if name.ident == "self" => (before.to_vec(), before.last().cloned()),
            UseTree::Name(name) => (with(&name.ident), Some(name.ident.to_string())),
            UseTree::Rename(rename) if rename.ident == "self" => {
                (before.to_vec(), Some(rename.rename.to_string()))
            }
            UseTree::Rename(rename) => (with(&rename.ident), Some(rename.rename.to_string())),
        };
        let found = self.within(tree, Use { path, name, public });
        self.uses.push(found);
    }

    /// The paths among the arguments of a macro, which are not parsed as expressions.
    fn add_paths(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let (mut colons, mut line) = (0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(name) => {
                    if colons != 2 {
                        self.add_path(std::mem::take(&mut path), line);
                        line = name.span().start().line;
                    }
                    path.push(name.to_string());
                    colons = 0;
                }
                TokenTree::Punct(mark) if mark.as_char() == ':' => colons += 1,
                other => {
                    self.add_path(std::mem::take(&mut path), line);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.add_paths(group.stream());
                    }
                }
            }
        }
        self.add_path(path, line);
    }

    fn add_path(&mut self, path: Vec<String>, line: usize) {
        if path.len() > 1 {
            self.paths.push(Within { inline: self.inline.clone(), line, what: path });
        }
    }
}

impl<'ast> Visit<'ast> for Parsed {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name): (&[Attribute], Option<&syn::Ident>) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Mod(item) => (&item.attrs, None),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Union(item) => (&item.attrs, Some(&item.ident)),
            Item::Use(item) => (&item.attrs, None),
            _ => (&[], None),
        };
        if is_for_tests(attributes) {
            return;
        }
        if let Some(name) = name {
            let found = self.within(name, name.to_string());
            self.items.push(found);
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes: &[Attribute] = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            _ => &[],
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        let name = item.ident.to_string();
        let path = item.attrs.iter().filter(|attribute| attribute.path().is_ident("path"));
        let mut path = path.filter_map(|attribute| match &attribute.meta {
            syn::Meta::NameValue(pair) => match &pair.value {
                syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) => Some(text.value()),
                _ => None,
            },
            _ => None,
        });
        let module = Module { name: name.clone(), path: path.next_back(), has_body: item.content.is_some() };
        let found = self.within(item, module);
        self.modules.push(found);
        if let Some((_, items)) = &item.content {
            self.inline.push(name);
            items.iter().for_each(|item| self.visit_item(item));
            self.inline.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let public = !matches!(item.vis, syn::Visibility::Inherited);
        if item.leading_colon.is_none() {
            self.add_uses(&item.tree, &[], public);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.add_path(names, path.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.add_paths(call.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}

/// Whether `#[cfg(test)]`, or `#[cfg(all(test, …))]`, leaves an item out of the program.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().filter(|attribute| attribute.path().is_ident("cfg")).any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let mut tokens = list.tokens.clone().into_iter();
        match (tokens.next(), tokens.next()) {
            (Some(TokenTree::Ident(name)), None) => name == "test",
            (Some(TokenTree::Ident(name)), Some(TokenTree::Group(group))) if name == "all" => {
                let first = group.stream().into_iter().next();
                matches!(first, Some(TokenTree::Ident(name)) if name == "test")
            }
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(text: &str) -> Vec<String> {
        let parsed = Parsed::of(text).expect("Rust");
        let uses =
            parsed.uses.iter().map(|found| format!("{} use {}", found.line, found.what.path.join("::")));
        let paths = parsed.paths.iter().map(|found| format!("{} {}", found.line, found.what.join("::")));
        uses.chain(paths).collect()
    }

    #[test]
    fn use_trees_paths_and_arguments_of_macros_are_found_with_their_lines() {
        let text = "use crate::{a::{self, B as C}, d::*};\n\nfn f() -> crate::g::H {\n    \
             print!(\"{}\", super::i::j(k::l::M));\n}\n";
        let found = paths(text);
        let expected = ["1 use crate::a", "1 use crate::a::B", "1 use crate::d", "3 crate::g::H"];
        assert_eq!(found, [&expected[..], &["4 super::i::j", "4 k::l::M"][..]].concat());
    }

    #[test]
    fn test_code_is_left_out_and_its_neighbours_are_not() {
        let text = "#[cfg(test)]\nmod tests { use crate::a::B; }\n#[cfg(all(test, unix))]\nfn f() { crate::c::d(); }\n\
             #[cfg(not(test))]\nuse crate::e::F;\nimpl G {\n#[cfg(test)]\nfn h() { crate::i::j(); } }\n";
        assert_eq!(paths(text), ["6 use crate::e::F"]);
    }
}
