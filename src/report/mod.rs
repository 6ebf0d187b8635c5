//! Pages for people. The content of each is assembled once, as a [`page::Page`], and rendered twice, so that HTML and
//! Markdown say the same. Neither renderer knows what the page is about, nothing of the content knows markup, and every
//! word in every language is in [`words`].

pub(crate) mod drill;
mod html;
mod markdown;
pub(crate) mod overview;
mod page;
mod words;
