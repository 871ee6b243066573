// Builds its form and its panels from the signatures of the chosen model, so that a new method needs no change here.
// Whatever comes from a server or a user enters the page as text, never as markup.
"use strict";

const find = (id) => document.getElementById(id);
const state = { signatures: {}, pictures: {}, files: {}, asked: 0 };

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function words(name) {
  const text = name.replaceAll("_", " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

async function ask(path, body) {
  const options = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer");
  }
  const value = parse(await response.text());
  if (!response.ok) {
    throw new Error(value.error);
  }
  return value;
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    // Floats that JSON does not have are bare words in this API.
    return JSON.parse(text.replace(/(?<=[[,:]\s*)-?(NaN|Infinity)(?=\s*[\],}])/g, "null"));
  }
}

function modelPath() {
  const version = find("version").value;
  return `/v1/models/${encodeURIComponent(find("model").value)}` + (version ? `/versions/${version}` : "");
}

// Inputs are texts, images, or files of another kind; the last part of the name tells.
const isImage = (alias) => /(^|_)image$/.test(alias);
const isFile = (alias) => isImage(alias) || alias.endsWith("_file");

// What a panel can show: neighbours, pictures, or labels. Outputs that end in _bytes are PNG files.
function kindOf(outputs) {
  if (outputs.ids && outputs.scores) return "hits";
  if (Object.keys(outputs).some((alias) => alias.endsWith("_bytes"))) return "pictures";
  if (outputs.labels && outputs.probabilities) return "labels";
  return null;
}

async function loadModels() {
  const { models } = await ask("models");
  state.pictures = Object.fromEntries(models.map((model) => [model.name, model.pictures]));
  find("model").replaceChildren(...models.map((model) => element("option", { value: model.name }, model.name)));
  if (!models.length) {
    throw new Error("no model is served");
  }
  await loadVersions();
}

async function loadVersions() {
  const { model_version_status: found } = await ask(`/v1/models/${encodeURIComponent(find("model").value)}`);
  const served = found.filter((entry) => entry.state === "AVAILABLE").map((entry) => entry.version);
  const options = served.map((version) => element("option", { value: version }, version));
  find("version").replaceChildren(element("option", { value: "" }, "newest"), ...options);
  await loadSignatures();
}

async function loadSignatures() {
  const { metadata } = await ask(`${modelPath()}/metadata`);
  const all = metadata.signature_def.signature_def;
  state.signatures = {};
  for (const [name, signature] of Object.entries(all).sort()) {
    const inputs = Object.entries(signature.inputs ?? {});
    const kind = kindOf(signature.outputs ?? {});
    if (kind && inputs.length && inputs.every(([, input]) => input.dtype === "DT_STRING")) {
      const outputs = Object.keys(signature.outputs);
      state.signatures[name] = { inputs: inputs.map(([alias]) => alias).sort(), outputs, kind };
    }
  }
  // The default signature is one of the others under a second name.
  if (Object.keys(state.signatures).length > 1) delete state.signatures.serving_default;
  const aliases = new Set(Object.values(state.signatures).flatMap((signature) => signature.inputs));
  // Texts first, where typing starts.
  const ordered = [...aliases].sort((a, b) => isFile(a) - isFile(b) || a.localeCompare(b));
  find("inputs").replaceChildren(...ordered.map((alias) => (isFile(alias) ? fileField(alias) : textField(alias))));
  clear();
  if (!ordered.length) {
    throw new Error("this model has no signature of texts or images that finds items, labels or pictures");
  }
}

function textField(alias) {
  const input = element("input", { type: "text", id: `input-${alias}`, name: alias, autocomplete: "off" });
  return element("div", { className: "field" }, element("label", { htmlFor: input.id }, words(alias)), input);
}

function fileField(alias) {
  const accept = isImage(alias) ? "image/*" : "";
  const input = element("input", { type: "file", id: `input-${alias}`, name: alias, accept });
  const preview = element("img", { alt: "", hidden: true });
  const field = element(
    "div",
    { className: "field drop" },
    element("label", { htmlFor: input.id }, `${words(alias)}: choose a file or drop one here`),
    input,
    preview,
  );
  const take = (file) => {
    URL.revokeObjectURL(preview.src);
    preview.hidden = !file || !isImage(alias);
    if (!file) {
      delete state.files[alias];
      preview.removeAttribute("src");
      return;
    }
    state.files[alias] = file;
    if (isImage(alias)) {
      preview.src = URL.createObjectURL(file);
      preview.alt = `${words(alias)} to search with: ${file.name}`;
    }
    guarded(search)();
  };
  input.addEventListener("change", () => take(input.files[0]));
  for (const [type, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
    field.addEventListener(type, (event) => {
      event.preventDefault();
      field.classList.toggle("over", over);
      if (type === "drop" && event.dataTransfer.files.length) {
        // So that the field shows its name.
        input.files = event.dataTransfer.files;
        take(input.files[0]);
      }
    });
  }
  field.addEventListener("clear", () => take(null));
  return field;
}

async function base64(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  // In pieces: a call takes only so many arguments.
  for (let start = 0; start < bytes.length; start += 32768) {
    text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  }
  return btoa(text);
}

async function given() {
  const values = {};
  for (const input of find("inputs").querySelectorAll("input[type=text]")) {
    if (input.value.trim()) values[input.name] = [input.value.trim()];
  }
  for (const [alias, file] of Object.entries(state.files)) {
    values[alias] = [{ b64: await base64(file) }];
  }
  return values;
}

async function search() {
  // An answer that comes after the next question is not shown.
  const number = ++state.asked;
  show("error", "");
  find("panels").replaceChildren();
  const values = await given();
  const chosen = Object.entries(state.signatures).filter(([, { inputs }]) => inputs.every((alias) => alias in values));
  if (!chosen.length) {
    show("status", missing(values));
    return;
  }
  show("status", "Searching…");
  const answers = await Promise.allSettled(
    chosen.map(([name, { inputs }]) =>
      ask(`${modelPath()}:predict`, {
        signature_name: name,
        inputs: Object.fromEntries(inputs.map((alias) => [alias, values[alias]])),
      }),
    ),
  );
  if (number !== state.asked) return;
  const failed = answers.filter((answer) => answer.status === "rejected").map((answer) => answer.reason.message);
  show("error", [...new Set(failed)].join("; "));
  const panels = answers.flatMap((answer, place) => {
    const [name, { kind, outputs }] = chosen[place];
    return answer.status === "fulfilled" ? [panel(name, kind, named(answer.value.outputs, outputs))] : [];
  });
  find("panels").replaceChildren(...panels);
  show("status", panels.length === 1 ? "1 answer." : panels.length ? `${panels.length} answers.` : "");
}

// What is missing for the signature that lacks least of what it needs.
function missing(values) {
  const needs = Object.values(state.signatures).map(({ inputs }) => inputs.filter((alias) => !(alias in values)));
  const least = needs.sort((a, b) => a.length - b.length)[0];
  return Object.keys(values).length ? `Still missing: ${least.map(words).join(", ")}.` : "Type a text or choose an image.";
}

// The API leaves the name of an output away where there is one alone.
function named(values, aliases) {
  return aliases.length === 1 ? { [aliases[0]]: values } : values;
}

function panel(name, kind, outputs) {
  const heading = element("h2", { id: `panel-${name}` }, words(name));
  const section = element("section", {}, heading, ...{ hits, pictures, labels }[kind](outputs));
  section.setAttribute("aria-labelledby", heading.id);
  return section;
}

function hits(outputs) {
  // Of places without an item, as behind the last that matches, the id is empty.
  const places = outputs.ids[0].map((_, place) => place).filter((place) => outputs.ids[0][place]);
  const rows = places.map((place) => {
    const id = outputs.ids[0][place];
    const caption = outputs.payload?.[0][place] || id;
    const item = element("li", {}, element("p", {}, caption), score(id, outputs.scores[0][place]));
    const thumbnail = outputs.thumbnail_bytes?.[0][place].b64;
    if (thumbnail) item.prepend(element("img", { alt: caption, src: `data:image/jpeg;base64,${thumbnail}` }));
    else if (state.pictures[find("model").value]) item.prepend(picture(id, caption));
    return item;
  });
  return [rows.length ? element("ol", { className: "hits" }, ...rows) : element("p", {}, "Nothing found.")];
}

// A map holds numbers, which are no picture to look at: it is offered as a file.
function pictures(outputs) {
  const shown = Object.keys(outputs)
    .filter((alias) => alias.endsWith("_bytes"))
    .sort((a, b) => (a === "map_bytes") - (b === "map_bytes") || a.localeCompare(b))
    .map((alias) => {
      const name = words(alias.replace(/_bytes$/, ""));
      const source = `data:image/png;base64,${outputs[alias][0].b64}`;
      return alias === "map_bytes"
        ? element("p", {}, element("a", { href: source, download: "map.png" }, `${name} (PNG, its values are numbers)`))
        : element("figure", {}, element("img", { src: source, alt: name }), element("figcaption", {}, name));
    });
  return outputs.labels && outputs.shares ? [...shown, ...labels(outputs)] : shown;
}

function score(id, value) {
  return element("p", { className: "score" }, `${id} · ${value === null ? "not a number" : value.toFixed(3)}`);
}

function picture(id, caption) {
  const image = element("img", { alt: caption, loading: "lazy" });
  // Texts of an index have none.
  image.addEventListener("error", () => image.remove());
  image.src = `pictures/${encodeURIComponent(find("model").value)}/${encodeURIComponent(id)}`;
  return image;
}

function labels(outputs) {
  // Of the classes of a picture's pixels, those that it has.
  const present = outputs.labels[0].filter((_, place) => outputs.probabilities || outputs.shares[0][place] > 0);
  const rows = present.map((label, place) => {
    const value = (outputs.probabilities ?? outputs.shares)[0][place];
    const meter = element("meter", { min: 0, max: 1, value });
    meter.setAttribute("aria-label", label);
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, label),
      element("td", {}, `${(100 * value).toFixed(1)} %`),
      element("td", {}, meter),
      element("td", {}, outputs.predicted?.[0][place] ? "predicted" : ""),
    );
  });
  return [element("table", {}, ...rows)];
}

function show(id, text) {
  find(id).textContent = text;
}

function clear() {
  state.asked += 1;
  for (const field of find("inputs").querySelectorAll(".drop")) field.dispatchEvent(new Event("clear"));
  for (const id of ["error", "status"]) show(id, "");
  find("panels").replaceChildren();
}

// Shows what goes wrong instead of leaving the page silent.
function guarded(action) {
  return async (event) => {
    event?.preventDefault();
    try {
      await action();
    } catch (error) {
      show("status", "");
      show("error", error.message);
    }
  };
}

find("query").addEventListener("submit", guarded(search));
find("query").addEventListener("reset", () => clear());
find("model").addEventListener("change", guarded(loadVersions));
find("version").addEventListener("change", guarded(loadSignatures));
guarded(loadModels)();
