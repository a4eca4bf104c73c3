// The list of cases: numbers of the chosen label, flags, order and filters.

const element = (id) => document.getElementById(id);
const shorten = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));

function fillSelect(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === chosen)));
  select.hidden = options.length < 2;
}

class CaseList {
  constructor(overview, decisions, choose) {
    [this.overview, this.decisions, this.choose] = [overview, decisions, choose];
    const scored = overview.labels.filter((label) => label.scored);
    fillSelect(element("label"), [["", "all labels"], ...overview.labels.map(({ name }) => [name, name])], "");
    if (overview.labels.length === 1) element("label").hidden = true;
    const flags = [...new Set(overview.cases.flatMap((one) => one.flags))].sort();
    fillSelect(element("failure"), [["", "all cases"], ["any", "any failure"], ...flags.map((flag) => [flag, flag]), ["undecided", "not decided yet"]], "");
    fillSelect(element("group"), [["", "all groups"], ...[...new Set(overview.cases.flatMap((one) => one.groups))].sort().map((name) => [name, name])], "");
    const orders = [["dice", "lowest Dice first"], ["-dice", "highest Dice first"], ["hd95", "largest HD95 first"], ["name", "by name"]];
    fillSelect(element("sort"), overview.evaluated ? orders : [["name", "by name"]], overview.evaluated ? "dice" : "name");
    this.scored = scored.map(({ name }) => name);
    this.rows = new Map(overview.cases.map((one) => [one.name, this.buildRow(one)]));
    for (const id of ["search", "label", "failure", "group", "sort"]) element(id).addEventListener("input", () => this.show());
    this.show();
  }

  buildRow(one) {
    const row = document.createElement("li");
    const button = row.appendChild(document.createElement("button"));
    for (const name of ["name", "number", "number", "flags"]) button.appendChild(document.createElement("span")).className = name;
    button.addEventListener("click", () => this.choose(one.name));
    return row;
  }

  // of the chosen label, or the mean over the labels that count
  number(one, metric) {
    const label = element("label").value;
    const numbers = one.numbers[0] || {};
    if (label) return numbers[label]?.[metric] ?? null;
    const values = this.scored.map((name) => numbers[name]?.[metric]).filter((value) => value !== null && value !== undefined);
    return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
  }

  compare(one, other) {
    const order = element("sort").value;
    const byName = one.name.localeCompare(other.name, undefined, { numeric: true });
    if (order === "name") return byName;
    const last = order === "dice" ? Infinity : -Infinity;
    const [first, second] = [one, other].map((which) => this.number(which, order.replace("-", "")) ?? last);
    return (first === second ? 0 : order === "dice" ? first - second : second - first) || byName;
  }

  isShown(one) {
    const [search, failure, group, label] = ["search", "failure", "group", "label"].map((id) => element(id).value);
    const flags = label ? one.flags.filter((flag) => !flag.includes(": ") || flag.endsWith(`: ${label}`)) : one.flags;
    if (failure === "any" && !flags.length) return false;
    if (failure === "undecided" && this.decisions.of(one.name).decision) return false;
    if (failure && !["any", "undecided"].includes(failure) && !one.flags.includes(failure)) return false;
    if (group && !one.groups.includes(group)) return false;
    return one.name.toLowerCase().includes(search.trim().toLowerCase());
  }

  show(current = this.current) {
    this.current = current;
    this.shown = this.overview.cases.filter((one) => this.isShown(one)).sort((one, other) => this.compare(one, other));
    for (const one of this.shown) {
      const button = this.rows.get(one.name).firstChild;
      const { decision } = this.decisions.of(one.name);
      const [name, dice, distance, flags] = button.children;
      name.textContent = one.name;
      dice.textContent = this.overview.evaluated ? shorten(this.number(one, "dice"), 3) : "";
      distance.textContent = this.overview.evaluated ? shorten(this.number(one, "hd95"), 1) : "";
      flags.textContent = [...(decision ? [decision.toUpperCase()] : []), ...one.flags].join(", ");
      button.setAttribute("aria-current", one.name === current);
    }
    element("list").replaceChildren(...this.shown.map((one) => this.rows.get(one.name)));
    const unit = this.overview.unit ? ` (${this.overview.unit === "pixel" ? "px" : this.overview.unit})` : "";
    const head = this.overview.evaluated ? ` · name, Dice, HD95${unit}` : "";
    element("count").textContent = `${this.shown.length} of ${this.overview.cases.length} cases${head}`;
  }

  step(by) {
    const place = this.shown.findIndex((one) => one.name === this.current);
    const next = this.shown[place < 0 ? 0 : Math.min(Math.max(place + by, 0), this.shown.length - 1)];
    if (next && next.name !== this.current) this.choose(next.name);
  }

  reveal(name) {
    this.show(name);
    this.rows.get(name).scrollIntoView({ block: "nearest" });
  }
}
