//! The rows of the catalogue, a room for each of its parts.

mod addresses;
mod cluster;
mod coordination;
mod data;
mod hosts;
mod nodes;
mod paths;
mod watched;

use super::Rule;

/// The rooms, in the order of [`RuleId`](super::RuleId).
const ROOMS: [&[Rule]; 8] = [
    coordination::ROWS,
    paths::ROWS,
    nodes::ROWS,
    addresses::ROWS,
    data::ROWS,
    hosts::ROWS,
    cluster::ROWS,
    watched::ROWS,
];

const COUNT: usize = {
    let (mut room, mut count) = (0, 0);
    while room < ROOMS.len() {
        count += ROOMS[room].len();
        room += 1;
    }
    count
};

static ALL: [Rule; COUNT] = {
    let mut all = [ROOMS[0][0]; COUNT];
    let (mut room, mut next) = (0, 0);
    while room < ROOMS.len() {
        let mut row = 0;
        while row < ROOMS[room].len() {
            all[next] = ROOMS[room][row];
            (next, row) = (next + 1, row + 1);
        }
        room += 1;
    }
    all
};

/// All rules, in the order of [`RuleId`](super::RuleId).
pub static RULES: &[Rule] = &ALL;
