"use strict";
/* What the pages of all tools draw with. Text from the data only ever becomes text nodes and attributes. */
const data = JSON.parse(document.getElementById("data").textContent);

const escaped = c => [...new TextEncoder().encode(c)].map(byte => "\\x" + byte.toString(16).padStart(2, "0")).join("");
const show = text => text.replace(/[\0-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/g, escaped);

function number(v) {
    if (v === null || v === undefined)
        return "\u2013";
    const size = Math.abs(v);
    return size !== 0 && (size < 1e-3 || size >= 1e6) ? v.toExponential(2) : String(Number(v.toPrecision(4)));
}

function bytes(n) {
    const word = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let w = 0;
    for (; n >= 999.5 && w < 6; w++)
        n /= 1000;
    return (w > 0 && n < 99.95 ? n.toFixed(1) : n.toFixed(0)) + " " + word[w];
}

function element(tag, attributes, into, text) {
    const e = document.createElement(tag);
    for (const key in attributes)
        e.setAttribute(key, attributes[key]);
    if (text !== undefined)
        e.textContent = text;
    if (into)
        into.append(e);
    return e;
}

function shape(tag, attributes, into, text) {
    const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const key in attributes)
        e.setAttribute(key, attributes[key]);
    if (text !== undefined)
        e.textContent = text;
    into.append(e);
    return e;
}

/* A name taken apart: the layer is its first number, the role what stands around it; further numbers (experts) become "*". */
function place(name) {
    const m = /(^|[.\/:-])(\d+)(?=$|[.\/:-])/.exec(name);
    if (!m)
        return { layer: null, prefix: "", role: name };
    const rest = name.slice(m.index + m[0].length + 1).replace(/(^|[.\/:-])\d+(?=$|[.\/:-])/g, "$1*");
    return { layer: Number(m[2]), prefix: name.slice(0, m.index), role: rest };
}

/* Drawings depend on the width they have; each is made again when the window changes. */
const drawings = [];
function drawing(make) {
    let width = 0;
    drawings.push(() => { if (width !== innerWidth) { width = innerWidth; make(); } });
    drawings[drawings.length - 1]();
}
addEventListener("resize", () => requestAnimationFrame(() => drawings.forEach(draw => draw())));

function choice(into, label, words, chosen) {
    const group = element("div", { class: "choice", role: "group", "aria-label": label }, into);
    words.forEach((word, i) => {
        const button = element("button", { type: "button", "aria-pressed": i === 0 }, group, word);
        button.addEventListener("click", () => {
            [...group.children].forEach(b => b.setAttribute("aria-pressed", b === button));
            chosen(i);
        });
    });
}

/* ---- what a pointer or the arrow keys are on ---- */

const tip = element("div", { id: "tip", role: "status", hidden: "" }, document.body);

function show_tip(at, title, facts) {
    tip.replaceChildren();
    element("div", { class: "name" }, tip, show(title));
    const table = element("table", {}, tip);
    for (const [word, value] of facts) {
        const row = element("tr", {}, table);
        element("td", {}, row, word);
        element("td", {}, row, show(String(value)));
    }
    tip.hidden = false;
    const box = at.getBoundingClientRect(), own = tip.getBoundingClientRect();
    const below = box.bottom + 8 + own.height < innerHeight;
    tip.style.left = Math.max(4, Math.min(box.left, innerWidth - own.width - 4)) + "px";
    tip.style.top = Math.max(4, below ? box.bottom + 8 : box.top - own.height - 8) + "px";
}

const hide_tip = () => { tip.hidden = true; };
addEventListener("scroll", hide_tip, { passive: true });
addEventListener("keydown", event => { if (event.key === "Escape") hide_tip(); });

function tips(e, title, facts) {
    for (const kind of ["pointerenter", "pointerdown"])
        e.addEventListener(kind, () => show_tip(e, title(), facts()));
    e.addEventListener("pointerleave", hide_tip);
}

/* ---- layers by roles ---- */

/* Tensors in a grid: those of one layer and role share a cell, the worst of them shows. Those without a layer follow, a row each. */
function grid_of(rows, is_worse) {
    const roles = new Map(), outside = [], layers = new Set(), prefixes = new Set();
    for (const row of rows) {
        const p = place(row.name);
        if (p.layer === null) {
            outside.push({ label: row.name, cells: new Map([[null, [row]]]) });
            continue;
        }
        const key = p.prefix + "\n" + p.role;
        layers.add(p.layer);
        prefixes.add(p.prefix);
        if (!roles.has(key))
            roles.set(key, { prefix: p.prefix, role: p.role, cells: new Map() });
        const cells = roles.get(key).cells;
        cells.has(p.layer) ? cells.get(p.layer).push(row) : cells.set(p.layer, [row]);
    }
    const short = role => role.replace(/\.weight$/, "");
    for (const r of roles.values())
        r.label = prefixes.size > 1 ? r.prefix + ".N." + short(r.role) : short(r.role) || r.prefix;
    return { roles: [...roles.values()], outside, layers: [...layers].sort((a, b) => a - b) };
}

/* Nine steps of colour between eight rising bounds. */
function steps(bounds, spell) {
    const from = bounds.map((bound, i) => ["q" + (i + 1), (i === 7 ? "\u2265 " : "") + spell(bound)]);
    return { step: v => "q" + bounds.filter(bound => v >= bound).length, legend: [["q0", "< " + spell(bounds[0])], ...from] };
}

/* Lines of cells without a value stand last, and when they are many only when asked for: what was measured comes first. */
const MOST_ALONE = 6;
function lines_of(grid, all) {
    const alone = line => [...line.cells.values()].every(found => found.every(row => row.alone));
    const split = lines => [lines.filter(line => !alone(line)), lines.filter(alone)];
    const [roles, other_roles] = split(grid.roles), [outside, other_outside] = split(grid.outside);
    const hidden = other_roles.length + other_outside.length;
    const show = all || hidden <= MOST_ALONE || !(roles.length + outside.length);
    return show ? { roles: [...roles, ...other_roles], outside: [...outside, ...other_outside], hidden: 0 } : { roles, outside, hidden };
}

/* metric: { word, note, value(row) (null: there is none), step(value) (a class), text(value), legend: [[class, words]] }.
 * A row with `alone` (words that say of whom) has no value at all.
 * fails(row): it gets a frame. facts(row): what the tip says. */
function heat_map(host, rows, metrics, fails, facts) {
    const grid = grid_of(rows), height = 22;
    const tools = element("div", { class: "tools" }, host);
    const note = element("p", { class: "note" }, host);
    const legend = element("ul", { class: "legend" }, host);
    const worst = element("p", { class: "note worst" }, host);
    const map = element("div", { class: "map" }, host);
    const more = element("button", { type: "button", class: "more", hidden: "" }, host);
    let metric = metrics[0], cells = [], all = false;
    more.addEventListener("click", () => { all = true; draw(); });
    if (metrics.length > 1)
        choice(tools, "what the colours show", metrics.map(m => m.word), i => { metric = metrics[i]; colour(); });

    function colour() {
        note.textContent = metric.note;
        legend.replaceChildren();
        for (const [step, words] of metric.legend)
            element("i", { class: step }, element("li", {}, legend)).after(words);
        for (const cell of cells) {
            const value = row => metric.value(row) ?? Infinity;
            cell.row = cell.rows.reduce((worst, row) => value(row) > value(worst) ? row : worst);
            const v = metric.value(cell.row);
            const words = cell.row.alone ?? metric.word + " " + (v === null ? "does not exist" : metric.text(v));
            const step = v !== null ? metric.step(v) : cell.row.alone ? "alone" : "void";
            cell.e.setAttribute("class", "cell " + step + (cell.rows.some(fails) ? " fails" : ""));
            cell.e.setAttribute("aria-label", show(cell.row.name) + ": " + words);
            if (cell.value)
                cell.value.textContent = words;
        }
        point();
    }

    /* The worst cell that fails is in sight, in a map that is wider than its window too, and named above it. */
    function point() {
        const bad = cells.filter(cell => cell.rows.some(row => fails(row) && !row.alone));
        const value = cell => metric.value(cell.row) ?? Infinity;
        worst.replaceChildren();
        if (!bad.length)
            return;
        const first = bad.reduce((a, b) => value(b) > value(a) ? b : a), field = first.e.ownerSVGElement.parentNode;
        field.scrollLeft = Number(first.e.getAttribute("x")) - field.clientWidth / 2;
        worst.textContent = bad.length > 1 ? bad.length + " framed cells, the worst: " : "the framed cell: ";
        const button = element("button", { type: "button", class: "name" }, worst, show(first.row.name));
        button.addEventListener("click", () => { first.e.scrollIntoView({ block: "center", inline: "center" }); mark(first.row.name); });
    }

    function draw() {
        map.replaceChildren();
        cells = [];
        const { roles, outside, hidden } = lines_of(grid, all);
        const lines = [...roles, ...outside], gap = roles.length && outside.length ? height : 0;
        more.hidden = hidden === 0;
        more.textContent = `show the ${hidden} rows that only one model has`;
        const labels = element("ol", { class: "labels", "aria-hidden": "true" }, map);
        const field = element("div", { class: "field" }, map);
        if (roles.length)
            element("li", {}, labels, "layer");
        lines.forEach((line, i) => {
            if (gap && i === roles.length)
                element("li", {}, labels);
            element("li", { title: show(line.label) }, labels, show(line.label));
        });
        const top = roles.length ? height : 0, n = Math.max(1, grid.layers.length);
        const wide = Math.max(9, Math.min(36, Math.floor((field.clientWidth - 4) / n)));
        const width = Math.max(n * wide + 4, outside.length ? 260 : 0), tall = top + lines.length * height + gap + 4;
        const words = `heat map of ${lines.length} roles by ${grid.layers.length} layers; arrow keys move in it`;
        const svg = shape("svg", { width, height: tall, role: "group", tabindex: 0, "aria-label": words }, field);
        const every = Math.ceil(26 / wide);
        grid.layers.forEach((layer, x) => {
            if (x % every === 0)
                shape("text", { x: 2 + x * wide + wide / 2, y: 15, "text-anchor": "middle" }, svg, layer);
        });
        lines.forEach((line, i) => {
            const y = 2 + top + i * height + (i >= roles.length ? gap : 0);
            for (const [layer, found] of line.cells) {
                const x = layer === null ? 0 : grid.layers.indexOf(layer);
                const e = shape("rect", { x: 3 + x * wide, y: y + 1, width: wide - 2, height: height - 2, rx: 2, role: "img" }, svg);
                const cell = { e, rows: found, row: found[0], x, y: i };
                if (layer === null)
                    cell.value = shape("text", { x: wide + 10, y: y + 15 }, svg, "");
                tips(e, () => cell.row.name, () => [...(found.length > 1 ? [["the worst of", found.length]] : []), ...facts(cell.row)]);
                e.addEventListener("click", () => mark(cell.row.name));
                cells.push(cell);
            }
        });
        walk(svg);
        colour();
    }

    function walk(svg) {
        const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
        let here = null;
        svg.addEventListener("keydown", event => {
            if (event.key === "Enter" && here)
                mark(here.row.name);
            if (!move[event.key])
                return;
            event.preventDefault();
            const [dx, dy] = move[event.key];
            const ahead = here ? cells.filter(c => dx ? c.y === here.y && (c.x - here.x) * dx > 0 : (c.y - here.y) * dy > 0) : cells;
            const far = c => here ? Math.abs(c.x - here.x) + 1000 * Math.abs(c.y - here.y) : 0;
            if (!ahead.length)
                return;
            here?.e.classList.remove("here");
            here = ahead.reduce((a, b) => far(b) < far(a) ? b : a);
            here.e.classList.add("here");
            show_tip(here.e, here.row.name, facts(here.row));
        });
        svg.addEventListener("blur", () => { here?.e.classList.remove("here"); hide_tip(); });
    }
    drawing(draw);
}

/* ---- bars ---- */

/* bars: [{ label, n, step (a class, or none), title }]. */
function bar_chart(host, bars, words) {
    host.replaceChildren();
    const wide = Math.max(260, Math.min(760, host.clientWidth)), each = wide / bars.length;
    const tall = 150, most = Math.max(1, ...bars.map(b => b.n));
    const svg = shape("svg", { width: wide, height: tall + 40, class: "bars", role: "group", "aria-label": words }, host);
    bars.forEach((b, i) => {
        const h = b.n === 0 ? 0 : Math.max(2, b.n / most * tall);
        const e = shape("rect", { x: i * each + 1, y: 16 + tall - h, width: each - 2, height: h, rx: 2, role: "img",
                                  class: "bar", "aria-label": `${b.title}: ${b.n}` }, svg);
        if (b.step)
            e.style.fill = `var(--${b.step})`;
        tips(e, () => b.title, () => [["tensors", b.n]]);
        if (b.n > 0)
            shape("text", { x: (i + .5) * each, y: 11 + tall - h, "text-anchor": "middle" }, svg, b.n);
        shape("text", { x: (i + .5) * each, y: tall + 31, "text-anchor": "middle" }, svg, b.label);
    });
    shape("line", { x1: 0, x2: wide, y1: tall + 17, y2: tall + 17, stroke: "currentColor", "stroke-opacity": .4 }, svg);
}

/* ---- tables ---- */

function sort_by(table, column, ascending) {
    const body = table.tBodies[0], key = row => {
        const cell = row.cells[column];
        return cell.classList.contains("n") ? ("v" in cell.dataset ? Number(cell.dataset.v) : -Infinity) : cell.textContent;
    };
    const rows = [...body.rows].map(row => [key(row), row]);
    rows.sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0) * (ascending ? 1 : -1));
    body.append(...rows.map(([, row]) => row));
    [...table.tHead.rows[0].cells].forEach((th, i) => i === column ? th.setAttribute("aria-sort", ascending ? "ascending" : "descending")
                                                                   : th.removeAttribute("aria-sort"));
}

for (const table of document.querySelectorAll("table.sortable")) {
    [...table.tHead.rows[0].cells].forEach((th, i) => {
        const button = element("button", { type: "button" }, null, th.textContent);
        th.replaceChildren(button);
        button.addEventListener("click", () => { /* numbers begin with the largest */
            const now = th.getAttribute("aria-sort");
            sort_by(table, i, now === null ? !th.classList.contains("n") : now === "descending");
        });
    });
    if (table.tBodies[0].rows.length < 8)
        continue;
    const search = element("input", { type: "search", placeholder: "part of a name", "aria-label": "only rows that have this text" });
    table.parentElement.before(element("div", { class: "tools" }, null));
    table.parentElement.previousSibling.append(search);
    search.addEventListener("input", () => {
        const word = search.value.toLowerCase();
        for (const row of table.tBodies[0].rows)
            row.hidden = !row.textContent.toLowerCase().includes(word);
    });
}

/* Goes to the row of a tensor, if the table of tensors has it. */
function mark(name) {
    for (const row of document.getElementById("tensors").tBodies[0].rows) {
        const found = row.cells[0].firstChild?.textContent === show(name);
        row.classList.toggle("marked", found);
        if (found) {
            row.hidden = false;
            row.scrollIntoView({ block: "center" });
        }
    }
}
