// Keeps a page current: the server says that something changed, the page is read again, and only
// what differs is put in place, so that focus, choices and open menus stay.
"use strict";

(function () {
  const linkState = document.getElementById("link-state");
  const REST = 700; // milliseconds between two readings at most
  let reading = false;
  let again = false;

  function say(text, kind) {
    if (linkState.textContent !== text) linkState.textContent = text;
    linkState.className = "link-state " + kind;
  }

  function localTimes(root) {
    const today = new Date().toDateString();
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.getAttribute("datetime"));
      if (isNaN(at)) continue;
      time.title = at.toLocaleString();
      time.textContent = at.toDateString() === today ? at.toLocaleTimeString() : at.toLocaleString();
    }
  }

  // What a person is changing is not taken from under their hands.
  function inUse(node) {
    return node.matches && node.matches("form.new-job, form.filter");
  }

  function morph(from, to) {
    if (from.nodeType !== to.nodeType || from.nodeName !== to.nodeName || (from.id || "") !== (to.id || "")) {
      from.replaceWith(document.importNode(to, true));
      return;
    }
    if (from.nodeType !== Node.ELEMENT_NODE) {
      if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
      return;
    }
    if (inUse(from)) return;
    // Whether details are open is the reader's choice, not the server's.
    for (const name of from.getAttributeNames()) if (name !== "open" && !to.hasAttribute(name)) from.removeAttribute(name);
    for (const name of to.getAttributeNames())
      if (from.getAttribute(name) !== to.getAttribute(name)) from.setAttribute(name, to.getAttribute(name));
    morphChildren(from, to);
  }

  function morphChildren(from, to) {
    const known = new Map();
    for (const child of from.children) if (child.id) known.set(child.id, child);
    let place = from.firstChild;
    for (const wanted of Array.from(to.childNodes)) {
      const same = wanted.id ? known.get(wanted.id) : null;
      if (same && same !== place) {
        from.insertBefore(same, place);
        place = same;
      }
      if (!place) {
        from.appendChild(document.importNode(wanted, true));
        continue;
      }
      if (wanted.id && !same) {
        from.insertBefore(document.importNode(wanted, true), place);
        continue;
      }
      const next = place.nextSibling;
      morph(place, wanted);
      place = next;
    }
    while (place) {
      const next = place.nextSibling;
      place.remove();
      place = next;
    }
  }

  async function read() {
    if (reading) {
      again = true;
      return;
    }
    reading = true;
    try {
      const answer = await fetch(location.href, { credentials: "same-origin", redirect: "manual" });
      if (answer.type === "opaqueredirect") {
        location.reload();
        return;
      }
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        localTimes(page);
        morph(document.getElementById("main"), page.getElementById("main"));
      }
    } catch (error) {
      say("offline", "lost");
    } finally {
      setTimeout(function () {
        reading = false;
        if (again) {
          again = false;
          read();
        }
      }, REST);
    }
  }

  localTimes(document);
  const events = new EventSource("/api/events/stream");
  events.addEventListener("open", function () { say("live", "live"); });
  events.addEventListener("error", function () { say("reconnecting", "lost"); });
  events.addEventListener("dashboard", read);
  window.addEventListener("pagehide", function () { events.close(); });
})();
