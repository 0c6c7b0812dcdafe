// Making and changing elements. All text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";
let counter = 0;

/** Make an HTML element: attributes, `on…` listeners, children (elements, text, lists of them; null is left out). */
export function h(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** Make an SVG element in the same way. */
export function s(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Give an id that no other element has. */
export function newId(prefix) {
  counter += 1;
  return `${prefix}-${counter}`;
}

/** Set the text of an element if it is another one. */
export function setText(element, text) {
  if (element.textContent !== String(text)) element.textContent = String(text);
}

/** Set a class name if it is another one. */
export function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

/**
 * Keep the children of `parent` in step with `items`: what has the same key stays and is updated, what is new is made,
 * what is gone is removed. `make(item)` gives `{node, update(item)}`.
 */
export function keyed(parent, key, make) {
  const kept = new Map();
  return (items) => {
    const wanted = new Set(items.map(key));
    for (const [id, one] of kept) {
      if (wanted.has(id)) continue;
      one.node.remove();
      kept.delete(id);
    }
    let next = parent.firstElementChild;
    for (const item of items) {
      const id = key(item);
      let one = kept.get(id);
      if (one) one.update?.(item);
      else kept.set(id, (one = make(item)));
      if (one.node === next) next = next.nextElementSibling;
      else parent.insertBefore(one.node, next);
    }
  };
}
