// Draws the page's mathematics. Widgets bring their own script.

for (const node of document.querySelectorAll(".math")) {
  const tex = node.textContent;
  katex.render(tex, node, { displayMode: node.tagName === "DIV", throwOnError: false });
}
