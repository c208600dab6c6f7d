// Draws the page's mathematics, opens a figure at its full size, and lets the keyboard reach the
// drawers at the sides. Widgets bring their own script.

for (const node of document.querySelectorAll(".math")) {
  const inline = node.tagName === "SPAN";
  katex.render(node.textContent, node, { displayMode: !inline, throwOnError: false });
  if (inline) keep(node);
}

// No line may begin with the full stop that follows a formula, nor end with the bracket before it:
// they go into one box with the formula's last piece, or its first.
function keep(node) {
  const { previousSibling: before, nextSibling: after } = node;
  const pieces = node.querySelectorAll(".katex-html > .katex-base");
  const open = before?.nodeType === Node.TEXT_NODE ? before.data.match(/[(\[“‘"']*$/)[0] : "";
  const close = after?.nodeType === Node.TEXT_NODE
    ? after.data.match(/^(?:['’]s)?[.,;:!?)\]”’"']*/)[0] : "";
  if (open) {
    before.data = before.data.slice(0, -open.length);
    box(pieces[0]).prepend(word(open));
  }
  if (close) {
    after.data = after.data.slice(close.length);
    box(pieces[pieces.length - 1]).append(word(close));
  }
}

function box(piece) {
  if (piece.parentElement.className === "keep") return piece.parentElement;
  const span = document.createElement("span");
  span.className = "keep";
  piece.replaceWith(span);
  span.append(piece);
  return span;
}

function word(text) {
  return Object.assign(document.createElement("span"), { className: "word", textContent: text });
}

for (const image of document.querySelectorAll("div.cell_output > img")) {
  const link = document.createElement("a");
  link.href = image.src;
  image.replaceWith(link);
  link.append(image);
}

const drawers = { __navigation: "Chapters", __toc: "On this page" };
for (const label of document.querySelectorAll("label:not(.overlay)")) {
  if (!drawers[label.htmlFor]) continue;
  Object.assign(label, { tabIndex: 0, role: "button", ariaLabel: drawers[label.htmlFor] });
  label.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    label.click();
  });
}
