"""What methods that name the class of an image have in common: data, networks, evaluation, pictures, signatures."""
