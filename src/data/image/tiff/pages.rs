//! Which page of a TIFF is the image.

use std::{collections::BTreeSet, fmt::Display};

use super::{
    directory::{Directory, File, tag},
    fault::{broken, not_read},
};

/// More are not counted.
const MOST_PAGES: usize = 1024;

/// The only full-size page. Thumbnails, levels of a pyramid and masks beside it are passed over.
///
/// # Errors
/// There is none, or more than one: a stack, of which no page may be taken for all of it.
pub fn image<'a>(file: File<'a>, first: u64) -> Result<Directory<'a>, String> {
    let mut pages = pages(file, first)?;
    let sizes = pages.iter().map(size).collect::<Result<Vec<_>, _>>()?;
    let mut reduced = pages.iter().map(is_reduced).collect::<Result<Vec<_>, _>>()?;
    if reduced.iter().all(|reduced| *reduced) {
        if pages.iter().any(|page| page.has(tag::SUB_IFDS)) {
            return Err(not_read("whose image is in a sub-directory, as in a camera's raw files"));
        }
        reduced.fill(false); // none is a copy of another one
    }
    let full = sizes.iter().zip(&reduced).filter(|(_, reduced)| !**reduced).map(|(size, _)| *size);
    let largest = full.max_by_key(|[w, h]| w.saturating_mul(*h)).unwrap_or_default();
    let is_full = |i: usize| !reduced[i] && !is_level(sizes[i], largest);
    let full: Vec<usize> = (0..pages.len()).filter(|&i| is_full(i)).collect();
    match full[..] {
        [page] => single(pages.swap_remove(page)),
        _ => Err(stack(full.len())),
    }
}

/// All pages, in their order.
fn pages<'a>(file: File<'a>, first: u64) -> Result<Vec<Directory<'a>>, String> {
    let (mut pages, mut seen, mut at) = (Vec::new(), BTreeSet::new(), first);
    while at != 0 {
        if !seen.insert(at) {
            return Err(broken(format!("its pages run in a circle, back to the one at {at}")));
        }
        if pages.len() == MOST_PAGES {
            return Err(stack(format!("more than {MOST_PAGES}")));
        }
        let page = file.directory(at)?;
        at = page.next;
        pages.push(page);
    }
    if pages.is_empty() { Err(broken("there is no image in it")) } else { Ok(pages) }
}

fn size(page: &Directory) -> Result<[u64; 2], String> {
    Ok([page.number(tag::WIDTH, 0)?, page.number(tag::HEIGHT, 0)?])
}

/// Whether a page says that it is a smaller copy of another one or a mask.
fn is_reduced(page: &Directory) -> Result<bool, String> {
    let (new, old) = (page.number(tag::NEW_SUBFILE_TYPE, 0)?, page.number(tag::SUBFILE_TYPE, 0)?);
    Ok(new & 0b101 != 0 || old == 2)
}

/// Whether a page is a level of a pyramid that does not say so: at most half as large as the image,
/// and of its form.
fn is_level([width, height]: [u64; 2], [w, h]: [u64; 2]) -> bool {
    let (across, down) = (width.saturating_mul(h), height.saturating_mul(w));
    width < w
        && height < h
        && width.saturating_mul(2) <= w.saturating_add(1)
        && height.saturating_mul(2) <= h.saturating_add(1)
        && across.abs_diff(down) <= w.max(h)
}

/// The page, unless it alone holds a stack.
fn single(page: Directory) -> Result<Directory, String> {
    let description = String::from_utf8_lossy(page.bytes(tag::DESCRIPTION)?);
    let planes =
        [imagej_images(&description), page.number(tag::IMAGE_DEPTH, 1)?, page.count(tag::UIC2)];
    match planes.into_iter().max() {
        Some(n) if n > 1 => Err(stack(n)),
        // tifffile's `truncate` writes one page for all
        _ if description.contains("\"truncated\": true") => Err(stack("several")),
        _ => Ok(page),
    }
}

/// The number of images that ImageJ says are in a file; above 4 GB it writes one page for all.
fn imagej_images(description: &str) -> u64 {
    let mut lines = description.lines();
    if !lines.next().is_some_and(|line| line.starts_with("ImageJ=")) {
        return 1;
    }
    lines.find_map(|line| line.trim().strip_prefix("images=")?.parse().ok()).unwrap_or(1)
}

fn stack(pages: impl Display) -> String {
    format!(
        "a TIFF stack of {pages} full-size pages, and a file must hold one channel; save each page \
            as a file of its own, such as ID_green.tif"
    )
}
