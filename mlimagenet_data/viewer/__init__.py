"""The viewer: a static web page that shows annotated images in a grid, and the regions, labels and crops of each.

`page.html`, `style.css` and the scripts are joined into one HTML file, which opens from disk and loads nothing from
elsewhere:

    labels.js    masks, shares and the label policy: the arithmetic of `mlimagenet_data.labelling.policy`, without any
    DOM masks.js     regions drawn on a canvas
    crop.js      the crop box
    detail.js    the dialog for one image
    grid.js      the grid of images, filters, startup

Annotations enter the page only as JSON, and the document only as text nodes, so that their content cannot run.
"""
