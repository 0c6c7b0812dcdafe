// What is wrong on a page for eyes and screen readers, as far as a script can tell: a list of sentences.
() => {
  const found = [];
  const shown = (e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest(".hidden");
  const rgb = (text) => [...text.match(/[\d.]+/g).map(Number), 1].slice(0, 4);
  const linear = (v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const ratio = (a, b) => {
    const [bright, dark] = [light(a), light(b)].sort((m, n) => n - m);
    return (bright + 0.05) / (dark + 0.05);
  };
  const ground = (e) => {
    for (let n = e; n; n = n.parentElement) {
      const colour = rgb(getComputedStyle(n).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const named = (e) => `${e.tagName.toLowerCase()}.${e.className} "${e.textContent.trim().slice(0, 30)}"`;
  const edge = document.documentElement.clientWidth;

  for (const e of document.querySelectorAll("body *")) {
    if (!shown(e)) continue;
    const style = getComputedStyle(e);
    const text = [...e.childNodes].some((n) => n.nodeType === Node.TEXT_NODE && n.data.trim());
    const contrast = text && !e.closest("svg") ? ratio(rgb(style.color), ground(e)) : 21;
    if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(2)}: ${named(e)}`);
    if (e.matches("input:not([type=checkbox]):not([type=file]), select")) {
      const border = ratio(rgb(style.borderTopColor), ground(e.parentElement));
      if (border < 3) found.push(`border ${border.toFixed(2)}: ${named(e)}`);
    }
    if (e.matches("input, select, textarea") && !e.labels.length) found.push(`no label: ${named(e)}`);
    if (e.matches("button, a[href], summary") && !e.textContent.trim()) found.push(`no name: ${named(e)}`);
    if (e.matches("svg") && !e.getAttribute("aria-label")) found.push("a drawing without words");
    if (e.matches("[onclick], [style]")) found.push(`inline: ${named(e)}`);
    for (const attribute of ["aria-describedby", "aria-labelledby", "for"]) {
      const ids = (e.getAttribute(attribute) ?? "").split(" ").filter(Boolean);
      for (const id of ids) if (!document.getElementById(id)) found.push(`${attribute} leads nowhere: ${id}`);
    }
    const right = e.getBoundingClientRect().right;
    if (right > edge + 0.5 && !e.closest("pre, thead, table:not(.wide)")) found.push(`sticks out: ${named(e)}`);
  }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`twice: ${id}`);
  for (const one of ["h1", "main"]) if (document.querySelectorAll(one).length !== 1) found.push(`not one ${one}`);
  const wide = document.documentElement.scrollWidth - edge;
  if (wide > 0) found.push(`scrolls sideways by ${wide}`);
  return found;
}
