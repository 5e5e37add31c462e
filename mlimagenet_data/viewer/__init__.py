"""A static web page that shows annotations: a grid of photographs, and each one's regions, labels and crops.

`page.html`, `style.css` and the scripts are joined into one HTML file, which loads nothing from elsewhere and works from a disk:

    labels.js    masks, shares and the label policy: the same arithmetic as `mlimagenet_data.labelling.policy`, and nothing of the page
    masks.js     regions drawn on a canvas
    crop.js      the crop box
    detail.js    one image
    grid.js      all images, filters, the start

What annotations say reaches the page as JSON only, and the document as text nodes only.
"""
